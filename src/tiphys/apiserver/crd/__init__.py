"""Custom resources at run time: which definitions are served, and how their objects are kept, read and written.

``controller`` follows the definitions and keeps their status; ``serving`` puts them into the scheme; ``strategy``,
``stored`` and ``target`` are to custom resources what their namesakes are to built-in kinds.
"""
