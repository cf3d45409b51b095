"""Images that crash, hang or fill what decodes them, or kill its parent, by their names: a `sitecustomize.py` that the
child process of a Decoder, which has the module path of its parent, runs when it starts.
"""

from pathlib import Path

FAULTS = """
import os, signal, time
from pathlib import Path
import numpy as np
import ssvq.imagery.tiles as tiles
import ssvq.imagery.units as units

def faulty(function):
    def replacement(dataset, *arguments, **settings):
        name = Path(dataset.name).name
        if name.startswith("crash") and ("header" in name or function.__name__ == "read_rgb"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if name.startswith("deadly") and ("header" in name or function.__name__ == "read_rgb"):
            os.kill(os.getppid(), signal.SIGKILL)
        if name.startswith("hang"):
            time.sleep(1000)
        if name.startswith("hungry"):
            np.ones(2**40 // 64, np.uint8)
        if name.startswith("once"):
            flag = Path(dataset.name + ".tried")
            if not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return function(dataset, *arguments, **settings)
    replacement.__name__ = function.__name__
    return replacement

tiles.read_rgb = faulty(tiles.read_rgb)
units.read_header = faulty(units.read_header)
"""


def install(folder: Path) -> Path:
    """Write the faults; the folder is to be put in front of the module path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(FAULTS)
    return folder
