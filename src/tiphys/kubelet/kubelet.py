"""The kubelet, wired: which pods are to run comes in from the sources, each gets a worker, and the node reports itself.

The way of a pod through this file: ``_changed`` → ``_admit`` → ``PodWorkers.update`` → ``PodSync.sync`` (pod_sync.py).

Source: https://kubernetes.io/docs/concepts/architecture/nodes/
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from tiphys.api.object import Object
from tiphys.api.pods.qos import GUARANTEED, qos_of
from tiphys.client.informer import Callbacks, Informer
from tiphys.client.resources import PODS, SERVICES
from tiphys.client.rest import Client
from tiphys.controlkit.events import EventRecorder
from tiphys.kubelet import labels
from tiphys.kubelet.api_objects import ApiObjects
from tiphys.kubelet.cgroups import enforcement
from tiphys.kubelet.cgroups.files import CgroupFiles
from tiphys.kubelet.cgroups.kills import MemoryKills, count_kills
from tiphys.kubelet.cgroups.limits import total_limits
from tiphys.kubelet.cgroups.manager import CgroupDriver, MissingCgroup, PodCgroups
from tiphys.kubelet.cgroups.names import parse, place
from tiphys.kubelet.cgroups.systemd import SystemdSlices
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.container.builder import ConfigBuilder
from tiphys.kubelet.container.cdi import reads_cdi
from tiphys.kubelet.container.hooks import HookRunner
from tiphys.kubelet.container.images import ImageFailure
from tiphys.kubelet.container.killer import Killer
from tiphys.kubelet.container.log_rotation import LogRotation
from tiphys.kubelet.container.runtime_classes import RuntimeClasses
from tiphys.kubelet.container.security import HostSecurity, apparmor_enabled
from tiphys.kubelet.container.swap import SwapControl
from tiphys.kubelet.devices.manager import DeviceManager
from tiphys.kubelet.dra.drivers import Drivers
from tiphys.kubelet.dra.health import HealthMonitor
from tiphys.kubelet.dra.manager import SWEEP_PERIOD, ClaimManager
from tiphys.kubelet.figures import KubeletFigures
from tiphys.kubelet.images.setup import PodImages
from tiphys.kubelet.node.agent import NodeAgent, Periods
from tiphys.kubelet.node.eviction import AT_ONCE, EvictionManager, EvictionPolicy, NodeDisks
from tiphys.kubelet.node.gc import ContainerGC
from tiphys.kubelet.node.health import RuntimeHealth
from tiphys.kubelet.node.housekeeping import Housekeeping
from tiphys.kubelet.node.imagegc import ImageGC
from tiphys.kubelet.node.machine import MachineInfo, default_node_ip, most_processes, read_machine
from tiphys.kubelet.node.measures import cgroup_processes
from tiphys.kubelet.node.node_reporter import NodeReporter
from tiphys.kubelet.node.observing import find_places, read_signals
from tiphys.kubelet.node.oom import OomWatcher
from tiphys.kubelet.node.resolver import MISSING_CLUSTER_DNS, ClusterDNS
from tiphys.kubelet.node.signals import Reclaim
from tiphys.kubelet.node.storage import StorageMeter
from tiphys.kubelet.plugins.registration import PluginWatcher
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.allocation import Allocations
from tiphys.kubelet.pod.ending import Ending
from tiphys.kubelet.pod.fields import field_value, resource_value
from tiphys.kubelet.pod.intake import PodIntake
from tiphys.kubelet.pod.pleg import PodLifecycle
from tiphys.kubelet.pod.pod_runtime import PodRuntime
from tiphys.kubelet.pod.pod_sync import PodSync
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.pod.resize import ResizeProblem, resize_problem
from tiphys.kubelet.pod.resizer import Resizer
from tiphys.kubelet.pod.workers import PodWorkers, WorkerPhase
from tiphys.kubelet.podresources.server import PodResources
from tiphys.kubelet.probes.manager import ProbeManager
from tiphys.kubelet.probes.prober import Prober
from tiphys.kubelet.recorder import PodEvents, Recorder
from tiphys.kubelet.runtime.service import ContainerState, ImageService, RuntimeService
from tiphys.kubelet.server.handler import KubeletServer
from tiphys.kubelet.server.snapshot import SnapshotTaker
from tiphys.kubelet.settings import NodeSettings
from tiphys.kubelet.shutdown.groups import periods_of
from tiphys.kubelet.shutdown.logind import Logind
from tiphys.kubelet.shutdown.manager import LoginManager, ShutdownManager
from tiphys.kubelet.sources.static import MirrorPodClient, StaticPods, is_mirror_of
from tiphys.kubelet.sources.static_set import StaticSet
from tiphys.kubelet.sources.url import UrlPods
from tiphys.kubelet.standalone import LoggedEvents
from tiphys.kubelet.status.manager import StatusManager
from tiphys.kubelet.tokens import TokenManager
from tiphys.kubelet.topology import cpusets, numa
from tiphys.kubelet.topology.affinity import Affinities
from tiphys.kubelet.topology.assigner import Assigner
from tiphys.kubelet.topology.cpu_enforcer import CpuEnforcer
from tiphys.kubelet.topology.cpusets import CpuTopology
from tiphys.kubelet.topology.setup import cpu_manager, memory_manager, topology_rules
from tiphys.kubelet.volumes.csi.drivers import CSIDrivers
from tiphys.kubelet.volumes.failures import MountFailure
from tiphys.kubelet.volumes.images import ImageVolumes, shown_images
from tiphys.kubelet.volumes.manager import VolumeManager
from tiphys.kubelet.volumes.sizes import memory_size
from tiphys.runtime.backoff import KeyedBackoff
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import CannotStart, Ready, whenever
from tiphys.runtime.tasks import MENDS_ITSELF_SECONDS, Runner, contain
from tiphys.runtime.vectors import Collector
from tiphys.wire.server import serve
from tiphys.wire.tls.ciphers import VERSIONS, openssl_list
from tiphys.wire.tls.contexts import ServerContext, TLSPolicy, keep_renewed, server_context

GROWTH_PERIOD = 15.0
"""Seconds between looks at claims whose volumes may have grown."""


class Kubelet:
    """One node's agent. ``run`` returns only when it is cancelled; pods run on without it.

    Without a ``recorder`` it writes events by itself. ``collectors`` are further metrics that it serves.
    """

    def __init__(
        self,
        *,
        config: KubeletConfig,
        client: Client,
        runtime: RuntimeService,
        images: ImageService,
        clock: Clock,
        recorder: Recorder | None = None,
        machine: MachineInfo | None = None,
        rng: random.Random | None = None,
        topology: CpuTopology | None = None,
        numa_nodes: numa.Numa | None = None,
        collectors: Sequence[Collector] = (),
        login_manager: Callable[[], Awaitable[LoginManager]] = Logind.connect,
    ) -> None:
        self.config = config
        self._login_manager = login_manager
        self.figures = KubeletFigures(clock)
        self.collectors: tuple[Collector, ...] = (self.figures, client.calls, *collectors)
        self.client = client
        self.runtime = runtime
        self.image_service = images
        self.clock = clock
        self._rng = rng or random.Random()
        self._runner = Runner(clock, "kubelet ")
        self._own_recorder = (
            None
            if recorder or config.standalone
            else EventRecorder(client, clock, "kubelet", host=config.node_name, rng=self._rng)
        )
        self._recorder: Recorder = recorder or self._own_recorder or LoggedEvents()
        self.events = PodEvents(self._recorder)
        self.machine = machine or read_machine(config.root)
        self._cgroup_files = CgroupFiles()
        self.settings = self._make_settings()
        self.health = RuntimeHealth(runtime, clock)
        self._affinities = Affinities()
        self.devices = DeviceManager(
            root=config.root,
            clock=clock,
            runner=self._runner,
            active=lambda: self._holding(),
            changed=self.health.changed.set,
            poke=self._poke,
            affinity=self._affinities.get,
        )
        self._device_health = HealthMonitor(
            config.root,
            clock=clock,
            runner=self._runner,
            users=lambda driver, devices: self.claims.users_of(driver, devices),
            poke=self._poke,
        )
        self._drivers = Drivers(client, config.node_name, clock, self._runner, health=self._device_health)
        self.claims = ClaimManager(config.root, client, self._drivers)
        self._assign(topology, numa_nodes)
        self._reporter = NodeReporter(
            config=config,
            settings=self.settings,
            machine=self.machine,
            health=self.health,
            images=images,
            recorder=self._recorder,
            clock=clock,
            pressures=self._pressures,
            volumes_in_use=lambda: self.volumes.in_use(),
            devices=self.devices,
            shutdown=lambda: self._shutdown.problem,
        )
        self.node = NodeAgent(
            client,
            clock,
            config.node_name,
            self._reporter.facts,
            labels=config.labels,
            taints=config.taints,
            transition=self._reporter.transition,
            event=self._reporter.event,
            periods=Periods(config.status_update_frequency, config.status_report_frequency, config.lease_seconds),
        )
        self.pods = Informer(client, PODS, clock, field_selector=f"spec.nodeName={config.node_name}", rng=self._rng)
        self.services = Informer(client, SERVICES, clock, rng=self._rng)
        self._wire()

    def _assign(self, topology: CpuTopology | None, numa_nodes: numa.Numa | None) -> None:
        """Who gives containers processors, memory and devices, if the configuration wants that anybody does."""
        config = self.config
        places = config.topology_policy != "none" or config.memory_policy != "None"
        if topology is None and (places or config.cpu_policy == "static"):
            topology = cpusets.read()
        topology = topology or CpuTopology({})
        memory_nodes = (numa_nodes or numa.read()) if places else numa.Numa({})
        self.cpus = cpu_manager(config, topology)
        self.memory = memory_manager(config, memory_nodes, self.machine.memory)
        self._enforcer = CpuEnforcer(self.runtime, self.cpus, self.clock) if self.cpus is not None else None
        self._assigner = Assigner(
            self.devices,
            self.claims,
            cpus=self.cpus,
            memory=self.memory,
            rules=topology_rules(config, topology.nodes, memory_nodes),
            affinities=self._affinities,
            changed=lambda: self._enforcer.changed.set() if self._enforcer is not None else None,
            device_health=self._device_health,
        )

    def _make_settings(self) -> NodeSettings:
        config = self.config
        return NodeSettings(
            node_name=config.node_name,
            root=config.root,
            log_root=config.log_root,
            container_log_links=config.container_log_links,
            host_ips=config.node_ips or (default_node_ip(),),
            dns=ClusterDNS(config.cluster_dns, config.cluster_domain, config.resolver_file),
            security=HostSecurity(
                apparmor=apparmor_enabled(),
                seccomp_default=config.seccomp_default,
                seccomp_root=str(config.root / "seccomp"),
            ),
            memory_capacity=self.machine.memory,
            cgroup_driver=config.cgroup_driver,
            cgroup_root=config.cgroup_root,
            cgroups_per_qos=config.cgroups_per_qos,
            cpu_period=config.cpu_period if config.cpu_cfs_quota else 0,
            swap=SwapControl(config.swap_behavior, self._cgroup_files.unified, self.machine.swap, self.machine.memory)
            if self.machine.limits_swap
            else None,
        )

    def _wire(self) -> None:
        """Build the kubelet's parts, each after those that it needs."""
        config, clock, runner, events = self.config, self.clock, self._runner, self.events
        objects = ApiObjects(self.client, clock, runner, self._objects_changed)
        tokens = TokenManager(self.client, clock)
        self.csi = CSIDrivers(self.client, config.node_name, lambda: self.node.node, clock)
        self._plugins = PluginWatcher(
            config.root / "plugins_registry",
            {"CSIPlugin": self.csi, "DevicePlugin": self.devices, "DRAPlugin": self._drivers},
            clock,
            runner,
        )
        self.volumes = VolumeManager(
            root=config.root,
            node_name=config.node_name,
            client=self.client,
            clock=clock,
            drivers=self.csi,
            images=ImageVolumes(self.image_service, config.runtime_socket, self._pull_for_volume),
            report_in_use=self._report_in_use,
            freed=self.health.changed.set,
            labels=lambda: ((self.node.node or {}).get("metadata") or {}).get("labels") or {},
            event=events.pod,
            objects=objects,
            tokens=tokens,
            field=self._field,
            memory=config.memory_volumes,
            slow=events.slow_volume,
            memory_size=lambda pod, limit: memory_size(pod, limit, self.settings.allocatable.get("memory")),
        )
        self.collectors += (self.volumes.figures,)
        self.status = StatusManager(
            client=self.client,
            clock=clock,
            runner=runner,
            current=self._shown,
            could_run=lambda uid: self.workers.could_run(uid),
        )
        self.probes = ProbeManager(
            prober=Prober(self.runtime),
            clock=clock,
            runner=runner,
            events=events,
            status=self.status.get,
            changed=self._poke,
            rng=self._rng,
        )
        hooks = HookRunner(self.runtime, clock, events)
        killer = Killer(self.runtime, hooks, clock, events)
        backoff = KeyedBackoff(10.0, 300.0)
        self._images = PodImages(config, client=self.client, service=self.image_service, clock=clock, events=events)
        self.collectors += (self._images.figures,)
        images = self._images.manager
        classes = RuntimeClasses(objects)
        builder = ConfigBuilder(
            self.settings,
            objects,
            self.image_service,
            self.services.store.list,
            classes=classes,
            recursive_handlers=lambda: self.health.recursive_read_only,
            reads_cdi=lambda: reads_cdi(self.health.version),
            cpus=self.cpus,
            memory=self.memory,
            complain=self._complain,
        )
        self.pod_runtime = PodRuntime(
            runtime=self.runtime,
            images=images,
            builder=builder,
            killer=killer,
            hooks=hooks,
            clock=clock,
            events=events,
            settings=self.settings,
            backoff=backoff,
            classes=classes,
            assigner=self._assigner,
            claims=self.claims,
            kills=MemoryKills(self._memory_kills),
        )
        self.mirrors = MirrorPodClient(self.client, lambda: self.node.node, self.pods.store.get)
        self.allocations = Allocations(config.root)
        self._resizer = Resizer(
            self.allocations,
            self._resize_problem,
            events,
        )
        self._cgroups = self._make_cgroups()
        self._sync = PodSync(
            settings=self.settings,
            clock=clock,
            events=events,
            runtime=self.pod_runtime,
            killer=killer,
            images=images,
            volumes=self.volumes,
            objects=objects,
            tokens=tokens,
            cgroups=self._cgroups,
            probes=self.probes,
            status=self.status,
            backoff=backoff,
            mirrors=self.mirrors,
            network_problem=lambda: self.health.network_problem,
            resources=builder.resources,
            resizer=self._resizer,
            allocations=self.allocations,
            runtime_name=lambda: self.health.version.name or "containerd",
            figures=self.figures,
            seen_at=lambda uid: self.workers.seen_at(uid),
            assigner=self._assigner,
            claims=self.claims,
            rng=self._rng,
            resync=config.sync_frequency,
        )
        self.workers = PodWorkers(
            syncer=self._sync, clock=clock, runner=runner, finished=self._finished, figures=self.figures
        )
        self._shutdown = ShutdownManager(
            periods=periods_of(config.shutdown_periods, config.shutdown_period, config.shutdown_period_critical),
            connect=self._login_manager,
            root=config.root,
            clock=clock,
            workers=self.workers,
            running=self._running,
            changed=self.health.changed.set,
            event=self._reporter.event,
            figures=self.figures,
        )
        self._intake = PodIntake(
            client=self.client,
            clock=clock,
            runner=runner,
            node=self.node,
            node_name=config.node_name,
            workers=self.workers,
            status=self.status,
            events=events,
            allocations=self.allocations,
            assigner=self._assigner,
            pressures=self._pressures,
            current=self._known,
            apparmor=self.settings.security.apparmor,
            unsafe_sysctls=config.allowed_unsafe_sysctls,
            shutting_down=lambda: bool(self._shutdown.problem),
        )
        self._static = StaticSet(
            workers=self.workers,
            status=self.status,
            mirrors=self.mirrors,
            events=events,
            runner=runner,
            shown=self.pods.store.get,
            offer=self._intake.offer,
            sources=[name for name, given in (("file", config.static_pod_path), ("http", config.static_url)) if given],
        )
        self.pleg = PodLifecycle(
            runtime=self.runtime, clock=clock, runner=runner, changed=self._poke, figures=self.figures
        )
        container_gc = ContainerGC(self.runtime, config.log_root, config.container_log_links, config.dead_containers)
        report = self._reporter.event
        image_gc = ImageGC(
            images=self.image_service,
            runtime=self.runtime,
            clock=clock,
            policy=config.image_policy,
            figures=self.figures,
            event=report,
            shown=lambda: shown_images(self.all_pods()),
        )
        self.storage = StorageMeter(config.root, Path(config.log_root), clock, runner)
        self.snapshots = SnapshotTaker(
            node_name=config.node_name,
            root=str(next(path for path in (config.root, *config.root.parents) if path.exists())),
            runtime=self.runtime,
            images=self.image_service,
            storage=self.storage,
            clock=clock,
            known=self._running,
            cgroup=self.settings.cgroup_parent,
            runtime_socket=config.runtime_socket,
            pods_cgroup=self.settings.pods_cgroup,
            own_pid=os.getpid(),
            claims_use=self.volumes.claims_use,
        )
        self._eviction = EvictionManager(
            policy=EvictionPolicy(config.thresholds(), config.eviction_transition, config.eviction_longest_grace),
            disks=NodeDisks(
                find=lambda: find_places(config.root, self.image_service),
                measure=lambda places: read_signals(places, self.settings.pods_cgroup),
                reclaims={
                    Reclaim.CONTAINERS: lambda: container_gc.collect(self._needs_no_containers),
                    Reclaim.IMAGES: image_gc.remove_unused,
                },
            ),
            runtime=self.runtime,
            storage=self.storage,
            processes=lambda pod: cgroup_processes(place(self.settings.cgroup_parent(pod))),
            active=self._active,
            evict=self._evict,
            is_gone=lambda uid: self.workers.phase(uid) in (None, WorkerPhase.FINISHED),
            event=report,
            clock=clock,
            changed=self.health.changed.set,
        )
        self._housekeeping = Housekeeping(
            runtime=self.runtime,
            pod_runtime=self.pod_runtime,
            killer=killer,
            volumes=self.volumes,
            pleg=self.pleg,
            containers=container_gc,
            images=image_gc,
            clock=clock,
            known=self._all_known,
            event=report,
            remove_cgroup=self._cgroups.remove_uid,
        )

    def _memory_kills(self, uid: str) -> int | None:
        counted = (count_kills(path) for path in self.settings.cgroups_of(uid))
        return next((kills for kills in counted if kills is not None), None)

    def _make_cgroups(self) -> PodCgroups:
        config = self.config
        driver: CgroupDriver | None = None
        slices = config.cgroup_driver == "systemd"
        if config.cgroups_per_qos:
            driver = SystemdSlices(self._cgroup_files) if slices else self._cgroup_files
        return PodCgroups(
            driver,
            self.settings.top_cgroup,
            total=total_limits(
                self.machine.cpus,
                self.machine.memory,
                most_processes(),
                config.reserved if enforcement.PODS in config.enforcements else {},
            ),
            reserved=[(parse(one.cgroup, slices=slices), one) for one in config.reserved_cgroups],
            pod_pids=config.pod_pids_limit,
            period=self.settings.cpu_period,
            active=self._active,
            event=self._reporter.event,
            figures=self.figures,
        )

    async def run(self, ready: Ready = whenever) -> None:
        """Register, follow the pods, and keep everything going until cancelled. ``ready``: the pods are known."""
        async with contextlib.AsyncExitStack() as stack:
            runner = await stack.enter_async_context(self._runner)
            stack.push_async_callback(self.volumes.close)
            if self._own_recorder is not None:
                runner.supervise(self._own_recorder.run, "events")
            if self.config.serve:
                await self._listen(stack)
            await self.health.wait_runtime()
            if self.config.pod_cidr:
                await self.runtime.update_pod_cidr(self.config.pod_cidr)
            if not self.config.standalone:
                runner.supervise(self.services.run, "services")
            self._reporter.starting(unified=self._cgroup_files.unified)
            stack.push_async_callback(self._cgroups.close)
            try:
                await self._cgroups.begin()
            except MissingCgroup as error:
                raise CannotStart(str(error)) from error
            runner.supervise(self._cgroups.run, "cgroups of pods")
            await self.health.check()
            runner.supervise(self.health.run, "runtime health")
            await self._images.take_over()
            stack.callback(self._images.close)
            runner.supervise(self._images.keep_tidy, "records of images")
            await self.pleg.relist()
            runner.supervise(self.pleg.run, "pod lifecycle")
            await self._restore_devices(stack)
            self._follow_static_pods()  # these run without an API server: they may be the API server
            if self.config.standalone:
                runner.supervise(self._plugins.run, "plugins")
            else:
                await self._follow_api_server()
            ready()
            runner.spawn(self._clean_up_in_time(), "clean-up")
            runner.supervise(self._eviction.run, "eviction")
            runner.supervise(OomWatcher(self._reporter.event).run, "the kernel's log")
            if self._shutdown.wanted:
                runner.supervise(self._shutdown.run, "the machine's shutdown")
            if self._enforcer is not None:
                runner.supervise(self._enforcer.run, "processors")
            runner.supervise(self._sweep_claims, "claims of pods that are gone")
            size, files = self.config.container_log_max_size, self.config.container_log_max_files
            runner.supervise(LogRotation(self.runtime, self.clock, size, files).run, "log rotation")
            await asyncio.Event().wait()

    async def _restore_devices(self, stack: contextlib.AsyncExitStack) -> None:
        """Know what containers that run already have, before any pod asks for devices; then let plugins come."""
        containers = await self.runtime.list_containers()
        running = [c for c in containers if c.state is ContainerState.RUNNING]
        self.devices.restore({(c.labels.get(labels.POD_UID, ""), c.name) for c in running})
        self.claims.restore()
        self._device_health.restore()
        stack.push_async_callback(self.devices.close)
        stack.push_async_callback(self._drivers.close)
        lister = PodResources(
            self.config.root,
            devices=self.devices,
            claims=self.claims,
            cpus=self.cpus,
            memory=self.memory,
            active=self._running,
            named=self.find_pod,
        )
        stack.push_async_callback(lister.close)
        await lister.start()
        await self.devices.start_serving()

    def _follow_static_pods(self) -> None:
        config, clock, node = self.config, self.clock, self.config.node_name
        if (folder := config.static_pod_path) is not None:
            changed = self._static.follow("file")
            static = StaticPods(folder, node, clock, changed, period=config.file_check_frequency)
            self._runner.supervise(static.run, "static pods")
        if config.static_url:
            distant = UrlPods(
                config.static_url,
                config.static_headers,
                node_name=node,
                clock=clock,
                changed=self._static.follow("http"),
                period=config.http_check_frequency,
            )
            self._runner.supervise(distant.run, "static pods of a URL")

    async def _follow_api_server(self) -> None:
        """Register the node, and take in the pods that are bound to it."""
        self._runner.supervise(self.pods.run, "pods")
        if self.config.register_node:
            await self._register()
        await self.services.wait_synced()
        await self.pods.wait_synced()
        self._follow_pods()

    async def _clean_up_in_time(self) -> None:
        """Clean up once every source of pods was heard: until then nobody knows what belongs to no pod."""
        await self._static.complete.wait()
        self._housekeeping.start(self._runner)

    async def _register(self) -> None:
        """Register the node, keep it reported, and show the static pods that began before it was known."""
        await self.node.register()
        self._reporter.registered()
        self._runner.supervise(self.node.run_lease, "lease")
        self._runner.supervise(self.node.run_status, "node status")
        self._runner.supervise(lambda: self._reporter.report_changes(self.node), "readiness")
        self._runner.supervise(self._plugins.run, "plugins")
        self._runner.supervise(self.csi.keep_limits, "limits of storage drivers")
        self._runner.supervise(self._grow_volumes, "growth of volumes")
        for uid in self._static.by_uid:
            self.workers.poke(uid)

    async def _report_in_use(self, volume: str) -> None:
        """Return when the Node says that the volume is in use: nobody detaches it from now on."""
        shown = ((self.node.node or {}).get("status") or {}).get("volumesInUse") or []
        if volume not in shown and self.node.node is not None:
            await self.node.report(force=True)

    async def _sweep_claims(self) -> None:
        while True:
            await self.clock.sleep(SWEEP_PERIOD)
            await self.claims.sweep(self._all_known)

    async def _grow_volumes(self) -> None:
        while True:
            await self.clock.sleep(GROWTH_PERIOD)
            for uid in await self.volumes.pods_to_grow():
                self.workers.poke(uid)

    def _follow_pods(self) -> None:
        """Take in what is there, the oldest first: what runs since long keeps its place before what is new."""
        for pod in sorted(self.pods.store.list(), key=_age):
            contain(f"taking in pod {pods.key_of(pod)}", self._changed, pod)
        self.pods.add_handler(_News(added=self._changed, updated=self._updated, deleted=self._deleted))

    async def _listen(self, stack: contextlib.AsyncExitStack) -> None:
        """Serve the kubelet's API; if the port is 0, the one that was given is reported."""
        config, tls = self.config, self._serving_context()
        pages = KubeletServer(self)
        server = await serve(pages.handle, config.address, config.port, tls=tls)
        stack.push_async_callback(server.close)
        config.port = server.port
        if config.healthz_port:
            health = await serve(pages.handle_health, config.healthz_address, config.healthz_port)
            stack.push_async_callback(health.close)

    def _serving_context(self) -> ServerContext | None:
        """With the certificate that is given, asked of the cluster, or signed by the kubelet itself; kept renewed."""
        config, authority = self.config, self.config.client_ca
        policy = TLSPolicy(VERSIONS[config.tls_versions], openssl_list(config.tls_ciphers), asks=True)
        if config.server_tls_bootstrap and config.cert_dir is not None:
            from tiphys.kubelet.certificates.serving import ServingCertificate

            asked = server_context(None, None, authority, policy=policy)
            serving = ServingCertificate(
                client=self.client,
                folder=config.cert_dir,
                names=(config.node_name, *self.settings.host_ips),
                show=lambda pair: asked.reload(pair, pair, authority),
                clock=self.clock,
                rng=random.Random(),
            )
            self._runner.supervise(serving.run, "serving certificate")
            return asked
        if (pair := self._serving_pair()) is None:
            return None
        tls = server_context(*pair, authority, policy=policy)
        keep = functools.partial(keep_renewed, tls, *pair, authority, clock=self.clock)
        self._runner.supervise(keep, "serving certificate")
        return tls

    def _serving_pair(self) -> tuple[Path, Path] | None:
        """The given certificate, or one that the kubelet signs itself, as upstream's does."""
        config = self.config
        if config.tls_cert is not None and config.tls_key is not None:
            return config.tls_cert, config.tls_key
        if config.cert_dir is None:
            return None
        from tiphys.wire.tls.selfsigned import ensure_certificate

        return ensure_certificate(config.cert_dir, (config.node_name, *self.settings.host_ips), "kubelet")

    # What the server shows.

    def all_pods(self) -> list[Pod]:
        """Every pod of this node, with the newest status."""
        listed = [pod for pod in self.pods.store.list() if not pods.is_mirror(pod)] + list(self._static.by_uid.values())
        return [{**pod, "status": self.status.get(pods.uid_of(pod)) or pod.get("status") or {}} for pod in listed]

    def _complain(self, pod: Pod, reason: str, message: str) -> None:
        self.events.pod(pod, "Warning", reason, message)
        if reason == "MissingClusterDNS":
            self._reporter.event("Warning", reason, MISSING_CLUSTER_DNS)

    async def _pull_for_volume(self, pod: Pod, volume: Object) -> str:
        """Pull the image that a volume shows; returns its id. Raises ``MountFailure``."""
        source = volume["image"]
        wanted = {"name": volume["name"], "image": source.get("reference"), "imagePullPolicy": source.get("pullPolicy")}
        try:
            return await self._images.manager.ensure(pod, wanted, await self._sync.pull_secrets(pod), {})
        except ImageFailure as failure:
            raise MountFailure(str(failure)) from failure

    def find_pod(self, namespace: str, name: str) -> Pod | None:
        """A pod by its name; for a mirror pod the static pod that it shows."""
        return self._static.find(namespace, name) or self.pods.store.get(namespace, name)

    def unhealthy(self) -> str:
        """Why the kubelet does not do its work; empty if it does."""
        listed = self.pleg.relisted_at
        if listed is not None and self.clock.monotonic() - listed > 180:
            return f"pleg was last seen active {self.clock.monotonic() - listed:.0f}s ago; threshold is 3m0s"
        if self.devices.problem:
            return f"device registration error: {self.devices.problem}"
        failing = self._runner.troubles(MENDS_ITSELF_SECONDS)
        return "; ".join(f"{loop} fails again and again: {error}" for loop, error in failing.items())

    # Pods from the API server.

    def _changed(self, pod: Pod) -> None:
        if pods.is_mirror(pod):
            self._static.mirror_changed(pod)
            return
        uid = pods.uid_of(pod)
        if self.workers.phase(uid) is None and not pods.is_deleting(pod) and not pods.is_terminal(pod):
            if self.status.get(uid) is None:  # else: turned away before, and not yet seen to be Failed
                self._intake.offer(pod)
            return
        self.workers.update(pod)
        self.status.api_changed(uid)

    def _updated(self, old: Pod, new: Pod) -> None:
        if pods.uid_of(old) != pods.uid_of(new):
            self._deleted(old)
        if self._is_echo(old, new):
            self.workers.remember(new)
            self.status.api_changed(pods.uid_of(new))
        else:
            self._changed(new)

    def _is_echo(self, old: Pod, new: Pod) -> bool:
        """Whether this is but our own status coming back. Conditions of others (readiness gates) are news."""
        return (
            self.workers.phase(pods.uid_of(new)) is WorkerPhase.SYNC
            and _only_status_changed(old, new)
            and _foreign_conditions(old) == _foreign_conditions(new)
            and not pods.is_terminal(new)
        )

    def _deleted(self, pod: Pod) -> None:
        uid = pods.uid_of(pod)
        if pods.is_mirror(pod):
            self._static.mirror_deleted(pod)
            return
        phase = self.workers.phase(uid)
        if phase is None:
            self.status.forget(uid)
        elif phase is WorkerPhase.FINISHED:
            self._forget(uid)
        else:  # deleted by force: nobody waits for it, but it must end all the same
            self.workers.kill(pod, pods.deletion_grace(pod))

    def _finished(self, uid: str) -> None:
        self._assigner.release_ended()
        self._intake.freed()
        for waiting in self._resizer.waiting():  # there may be room now
            self.workers.poke(waiting)
        if self._known(uid) is None:
            self._forget(uid)

    def _forget(self, uid: str) -> None:
        self.workers.forget(uid)
        self.storage.forget(uid)
        self._images.forget(uid)
        self.status.forget(uid)
        self._runner.spawn(self._housekeeping.remove_pod(uid), "removal")

    def _all_known(self) -> set[str]:
        return (
            {pods.uid_of(pod) for pod in self.pods.store.list()} | set(self._static.by_uid) | set(self.workers.known())
        )

    def _needs_no_containers(self, uid: str) -> bool:
        """Whether what has run of a pod can go when the disk is full: nothing has the pod, or it is done with."""
        return uid not in self._all_known() or self.workers.phase(uid) is WorkerPhase.FINISHED

    def _holding(self) -> set[str]:
        """Uids of the pods that have devices or may get some. Until all pods are known, whoever has some keeps them."""
        undecided = set(self._intake.deciding())
        if not self.pods.synced and not self.config.standalone:
            return undecided | self._all_known() | self._assigner.holders()
        return undecided | {uid for uid in self.workers.known() if self.workers.could_run(uid)}

    def _known(self, uid: str) -> Pod | None:
        """The pod as its source has it now."""
        if uid in self._static.by_uid:
            return self._static.by_uid[uid]
        pod = self.workers.pod(uid)
        if pod is None:
            return next((p for p in self.pods.store.list() if pods.uid_of(p) == uid), None)
        shown = self.pods.store.get(pods.namespace_of(pod), pods.name_of(pod))
        return shown if shown is not None and pods.uid_of(shown) == uid else None

    def _shown(self, pod: Pod) -> Pod | None:
        """The pod as the API shows it: for a static pod its mirror."""
        shown = self.pods.store.get(pods.namespace_of(pod), pods.name_of(pod))
        if shown is None:
            return None
        if pods.is_static(pod):
            return shown if is_mirror_of(shown, pod) else None
        return shown if pods.uid_of(shown) == pods.uid_of(pod) else None

    # Admission.

    def _resize_problem(self, pod: Pod) -> ResizeProblem | None:
        if self.cpus is not None and qos_of(pod) == GUARANTEED:
            message = 'Resize is infeasible for Guaranteed Pods alongside CPU Manager policy "static"'
            return ResizeProblem("Infeasible", message)
        return resize_problem(pod, self._intake.others(pod), self.settings.allocatable)

    def _pressures(self) -> list[str]:
        return self._eviction.pressures

    def _evict(
        self,
        pod: Pod,
        message: str,
        *,
        signal: str,
        disrupted: bool,
        grace: int = AT_ONCE,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        self.figures.evicted(signal)
        self.events.pod(pod, "Warning", "Evicted", message, annotations)
        self.workers.kill(pod, grace, Ending("Evicted", message, message if disrupted else ""))

    def _active(self) -> list[Pod]:
        """The pods that are to run."""
        synced = (self.workers.pod(uid) for uid in self.workers.known() if self.workers.phase(uid) is WorkerPhase.SYNC)
        return [pod for pod in synced if pod is not None]

    def _running(self) -> list[Pod]:
        """The pods that may have running containers, those that are being stopped included."""
        running = (self.workers.pod(uid) for uid in self.workers.known() if self.workers.could_run(uid))
        return [pod for pod in running if pod is not None]

    # What has changed at the runtime or at objects.

    def _poke(self, uid: str) -> None:
        self.workers.poke(uid)

    def _objects_changed(self, uid: str) -> None:
        self.workers.poke(uid)

    def _field(self, pod: Pod, item: Object) -> str:
        """A downward API item of a volume: fields read as the pod is now, not as it was when it was mounted."""
        current = self._known(pods.uid_of(pod)) or pod
        if selector := item.get("fieldRef"):
            status = self.status.get(pods.uid_of(pod)) or {}
            ips = [entry["ip"] for entry in status.get("podIPs") or []]
            return field_value(current, selector.get("fieldPath", ""), pod_ips=ips, host_ips=self.settings.host_ips)
        selector = item.get("resourceFieldRef") or {}
        return resource_value(current, {"name": ""}, selector, self.settings.allocatable)


class _News(Callbacks):
    """Pods that come after the first look."""

    def added(self, obj: Object, *, initial: bool) -> None:
        if not initial:
            super().added(obj, initial=initial)


def _age(pod: Pod) -> tuple[str, str]:
    return str(pod["metadata"].get("creationTimestamp") or ""), pods.key_of(pod)


def _only_status_changed(old: Pod, new: Pod) -> bool:
    """Whether nothing that the kubelet acts on differs."""
    keys = ("labels", "annotations", "deletionTimestamp", "deletionGracePeriodSeconds")
    metas = (old["metadata"], new["metadata"])
    return old["spec"] == new["spec"] and all(metas[0].get(key) == metas[1].get(key) for key in keys)


def _foreign_conditions(pod: Pod) -> list[Object]:
    gates = {gate["conditionType"] for gate in pods.spec_of(pod).get("readinessGates") or []}
    return [c for c in (pod.get("status") or {}).get("conditions") or [] if c["type"] in gates]
