"""The fields of every kind of kubeadm.k8s.io/v1beta4. A table of facts.

Source: https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/
"""

from __future__ import annotations

from tiphys.cluster.kubeadm.configuration.fields import (
    Fields,
    Reader,
    anything,
    duration,
    flag,
    listed,
    mapped,
    number,
    record,
    text,
    time,
    token,
)

GROUP_VERSION = "kubeadm.k8s.io/v1beta4"

_ARGUMENTS = listed(
    record({"name": text, "value": text}),
    'since v1beta4 arguments are written as "- {name: …, value: …}", so that one may be repeated',
)
_VARIABLES = listed(record({"name": text, "value": text, "valueFrom": anything}))
_VOLUMES = listed(
    record({"name": text, "hostPath": text, "mountPath": text, "readOnly": flag, "pathType": text}),
)
_TAINTS = listed(record({"key": text, "value": text, "effect": text, "timeAdded": time}))
_PATCHES = record({"directory": text})
_ENDPOINT = record({"advertiseAddress": text, "bindPort": number})
_IMAGE: dict[str, Reader] = {"imageRepository": text, "imageTag": text}
_COMPONENT: dict[str, Reader] = {"extraArgs": _ARGUMENTS, "extraVolumes": _VOLUMES, "extraEnvs": _VARIABLES}
_TIMEOUTS = record(
    dict.fromkeys(
        (
            "controlPlaneComponentHealthCheck",
            "kubeletHealthCheck",
            "kubernetesAPICall",
            "etcdAPICall",
            "tlsBootstrap",
            "discovery",
            "upgradeManifests",
        ),
        duration,
    )
)
_REGISTRATION = record(
    {
        "name": text,
        "criSocket": text,
        "taints": _TAINTS,
        "kubeletExtraArgs": _ARGUMENTS,
        "ignorePreflightErrors": listed(text),
        "imagePullPolicy": text,
        "imagePullSerial": flag,
    }
)
_LOCAL_ETCD = record(
    {
        **_IMAGE,
        "dataDir": text,
        "extraArgs": _ARGUMENTS,
        "extraEnvs": _VARIABLES,
        "serverCertSANs": listed(text),
        "peerCertSANs": listed(text),
    }
)
_EXTERNAL_ETCD = record(
    {
        "endpoints": listed(text),
        "httpEndpoints": listed(text),
        "caFile": text,
        "certFile": text,
        "keyFile": text,
    }
)
_TOKENS = listed(
    record(
        {
            "token": token,
            "description": text,
            "ttl": duration,
            "expires": time,
            "usages": listed(text),
            "groups": listed(text),
        }
    )
)

INIT: Fields = {
    "bootstrapTokens": _TOKENS,
    "dryRun": flag,
    "nodeRegistration": _REGISTRATION,
    "localAPIEndpoint": _ENDPOINT,
    "certificateKey": text,
    "skipPhases": listed(text),
    "patches": _PATCHES,
    "timeouts": _TIMEOUTS,
}

CLUSTER: Fields = {
    "etcd": record({"local": _LOCAL_ETCD, "external": _EXTERNAL_ETCD}),
    "networking": record({"serviceSubnet": text, "podSubnet": text, "dnsDomain": text}),
    "kubernetesVersion": text,
    "controlPlaneEndpoint": text,
    "apiServer": record({**_COMPONENT, "certSANs": listed(text)}),
    "controllerManager": record(_COMPONENT),
    "scheduler": record(_COMPONENT),
    "dns": record({**_IMAGE, "disabled": flag}),
    "proxy": record({"disabled": flag}),
    "certificatesDir": text,
    "imageRepository": text,
    "featureGates": mapped(flag),
    "clusterName": text,
    "encryptionAlgorithm": text,
    "certificateValidityPeriod": duration,
    "caCertificateValidityPeriod": duration,
}

JOIN: Fields = {
    "dryRun": flag,
    "nodeRegistration": _REGISTRATION,
    "caCertPath": text,
    "discovery": record(
        {
            "bootstrapToken": record(
                {
                    "token": text,
                    "apiServerEndpoint": text,
                    "caCertHashes": listed(text),
                    "unsafeSkipCAVerification": flag,
                }
            ),
            "file": record({"kubeConfigPath": text}),
            "tlsBootstrapToken": text,
        }
    ),
    "controlPlane": record({"localAPIEndpoint": _ENDPOINT, "certificateKey": text}),
    "skipPhases": listed(text),
    "patches": _PATCHES,
    "timeouts": _TIMEOUTS,
}

RESET: Fields = {
    "cleanupTmpDir": flag,
    "certificatesDir": text,
    "criSocket": text,
    "dryRun": flag,
    "force": flag,
    "ignorePreflightErrors": listed(text),
    "skipPhases": listed(text),
    "unmountFlags": listed(text),
    "timeouts": _TIMEOUTS,
}

_UPGRADE_COMMON: dict[str, Reader] = {"dryRun": flag, "etcdUpgrade": flag, "ignorePreflightErrors": listed(text)}
_UPGRADE_NODE: dict[str, Reader] = {
    **_UPGRADE_COMMON,
    "certificateRenewal": flag,
    "patches": _PATCHES,
    "skipPhases": listed(text),
    "imagePullPolicy": text,
    "imagePullSerial": flag,
}
_UPGRADE_PLAN: dict[str, Reader] = {
    **_UPGRADE_COMMON,
    "kubernetesVersion": text,
    "allowExperimentalUpgrades": flag,
    "allowRCUpgrades": flag,
    "printConfig": flag,
}

UPGRADE: Fields = {
    "apply": record({**_UPGRADE_NODE, **_UPGRADE_PLAN, "forceUpgrade": flag}),
    "diff": record({"kubernetesVersion": text, "contextLines": number}),
    "node": record(_UPGRADE_NODE),
    "plan": record(_UPGRADE_PLAN),
    "timeouts": _TIMEOUTS,
}

KINDS: dict[str, Fields] = {
    "InitConfiguration": INIT,
    "ClusterConfiguration": CLUSTER,
    "JoinConfiguration": JOIN,
    "ResetConfiguration": RESET,
    "UpgradeConfiguration": UPGRADE,
}
