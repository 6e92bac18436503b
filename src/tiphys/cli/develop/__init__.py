"""Commands for those who work on Tiphys: its checks, its tests and its torture."""
