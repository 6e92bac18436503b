"""The dashboard: a web page over the API, and the small server that carries its requests on as the user.

The page is TypeScript (``dashboard/`` of the repository); ``web`` holds it as built. The server has no rights: a
session is somebody who logged in, and what the API server lets them see is what the page shows.
"""
