"""The paper's experiments: grids of trainings, their tables and their pictures."""
