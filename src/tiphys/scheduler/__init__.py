"""The scheduler: chooses a node for each pod that has none, and binds it there.

``cycle`` shows one pod's way as an outline; ``queue`` says which pod is next; ``cache`` knows the nodes and what runs
on them; ``framework`` has one Protocol per extension point, and ``plugins`` everything that decides. The page
``docs/scheduling.md`` follows one pod through all of it.
"""
