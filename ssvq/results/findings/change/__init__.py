"""Compares findings with an earlier survey: which images show the same place, one frame for both, and areas compared in
it.
"""
