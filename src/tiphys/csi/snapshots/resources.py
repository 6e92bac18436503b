"""Where the kinds of snapshots are, if their CRDs are installed.

Source: https://kubernetes-csi.github.io/docs/snapshot-restore-feature.html
"""

from __future__ import annotations

from tiphys.client.resources import ResourcePath

SNAPSHOT_GROUP = "snapshot.storage.k8s.io"
VOLUME_SNAPSHOTS = ResourcePath(SNAPSHOT_GROUP, "v1", "volumesnapshots")
VOLUME_SNAPSHOT_CONTENTS = ResourcePath(SNAPSHOT_GROUP, "v1", "volumesnapshotcontents", namespaced=False)
VOLUME_SNAPSHOT_CLASSES = ResourcePath(SNAPSHOT_GROUP, "v1", "volumesnapshotclasses", namespaced=False)
