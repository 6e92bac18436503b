"""A whole cluster in one file: its store, its certificates, its configuration; and such files kept by a schedule.

``archive`` is the file's form, ``sources`` what of a cluster belongs into it, ``snapshots`` the store's part,
``restoring`` the way back, ``places`` where files are kept, ``schedule`` when and for how long. docs/backup.md is the
runbook.
"""
