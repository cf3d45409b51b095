"""The paper's experiments: grids of trainings, with tables and pictures."""
