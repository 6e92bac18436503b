"""Looks at every autoscaler once in a period, asks for its metrics, and sets its target's scale.

Source: https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from tiphys.api.meta.conditions import set_condition
from tiphys.api.meta.quantity import Quantity
from tiphys.api.meta.selectors import Selector, SelectorError, parse_label_selector
from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import HORIZONTAL_POD_AUTOSCALERS, PODS
from tiphys.controlkit.controller import Result
from tiphys.controlkit.discovery import Discovered, ServedResource, discover
from tiphys.controlkit.objects import (
    copy,
    equal,
    key_of,
    labels_of,
    namespace_of,
    split_key,
    status_of,
    timestamp,
)
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.podautoscaler.behavior import Bounds, History, decide
from tiphys.controllers.podautoscaler.evaluation import Evaluated, Evaluation, Failed, ScaledObject
from tiphys.controllers.podautoscaler.metrics import MetricsReader, no_match
from tiphys.controllers.podautoscaler.replicas import Startup, Tolerance

log = logging.getLogger(__name__)

_DISCOVERY_SECONDS = 30.0
_UNABLE = "the HPA controller was unable to get the target's current scale"
_ABOVE = "Current number of replicas above Spec.MaxReplicas"
_BELOW = "Current number of replicas below Spec.MinReplicas"


class Stopped(Exception):
    """This look at the autoscaler ends here; the status says why."""


@dataclass(slots=True)
class Look:
    """One look at an autoscaler, with the status that it will have."""

    hpa: Object
    history: History
    now: float
    status: Object = field(init=False)
    kinds: Discovered = field(init=False)
    resource: ServedResource = field(init=False)
    scale: Object = field(init=False)

    def __post_init__(self) -> None:
        self.status = copy(status_of(self.hpa))

    @property
    def current(self) -> int:
        return int(self.scale["spec"].get("replicas") or 0)

    def say(self, type_: str, status: str, reason: str, message: str) -> None:
        condition = {"type": type_, "status": status, "reason": reason, "message": message}
        set_condition(self.status.setdefault("conditions", []), condition, timestamp(self.now))

    def count(self, current: int, desired: int, metrics: list[Object] | None, *, rescaled: bool) -> None:
        self.status["currentReplicas"], self.status["desiredReplicas"] = current, desired
        self.status["currentMetrics"] = metrics
        if rescaled:
            self.status["lastScaleTime"] = timestamp(self.now)


class HorizontalPodAutoscalerController:
    def __init__(self, context: ControllerContext) -> None:
        config = context.config
        self._client, self._clock = context.client, context.clock
        self._recorder = context.recorder.named("horizontal-pod-autoscaler")
        self._metrics = MetricsReader(context.client)
        self._period = config.horizontal_pod_autoscaler_sync_period
        self._window = config.horizontal_pod_autoscaler_downscale_stabilization
        self._tolerance = config.horizontal_pod_autoscaler_tolerance
        self._startup = Startup(
            config.horizontal_pod_autoscaler_cpu_initialization_period,
            config.horizontal_pod_autoscaler_initial_readiness_delay,
        )
        self._histories: dict[str, History] = {}
        self._selectors: dict[str, Selector] = {}
        self._discovered: tuple[float, Discovered] | None = None
        self._hpas = context.informers.informer(HORIZONTAL_POD_AUTOSCALERS)
        self._pods = context.informers.informer(PODS)
        workers = config.concurrent_horizontal_pod_autoscaler_syncs
        self._controller = context.controller("horizontalpodautoscaler", self.reconcile, workers=workers)
        self._controller.reads(self._pods)
        self._controller.handles(
            self._hpas,
            Callbacks(added=self._enqueue, updated=lambda old, new: self._enqueue(new), deleted=self._forget),
        )

    async def run(self) -> None:
        await self._controller.run()

    def _enqueue(self, hpa: Object) -> None:
        self._controller.queue.add_after(key_of(hpa), self._period)

    def _forget(self, hpa: Object) -> None:
        self._histories.pop(key_of(hpa), None)
        self._selectors.pop(key_of(hpa), None)

    async def reconcile(self, key: str) -> Result | None:
        hpa = self._hpas.store.get(*split_key(key))
        if hpa is None:
            return None
        look = Look(hpa, self._histories.setdefault(key, History()), self._clock.now())
        try:
            await self._find_scale(look)
            await self._autoscale(look, key)
        except Stopped as stopped:
            log.info("autoscaler %s: %s", key, stopped)
        await self._save(look)
        return Result(after=self._period)

    async def _save(self, look: Look) -> None:
        if equal(look.status, status_of(look.hpa)):
            return
        try:
            await self._client.update_status(HORIZONTAL_POD_AUTOSCALERS, {**look.hpa, "status": look.status})
        except errors.ApiError as error:
            self._recorder.event(look.hpa, "Warning", "FailedUpdateStatus", error.message)
            log.info("the status of autoscaler %s was not saved: %s", key_of(look.hpa), error)

    # The target

    async def _find_scale(self, look: Look) -> None:
        reference = look.hpa["spec"]["scaleTargetRef"]
        group, kind = reference.get("apiVersion", "").rpartition("/")[0], reference["kind"]
        try:
            look.kinds = await self._kinds(look.now)
            resource = look.kinds.find(group, kind)
            if resource is None:
                raise self._no_scale(look, no_match(group, kind))
            look.resource = resource
            look.scale = await self._client.get(
                resource.path, reference["name"], namespace_of(look.hpa), subresource="scale"
            )
        except errors.ApiError as error:
            raise self._no_scale(look, error.message) from error
        look.say("AbleToScale", "True", "SucceededGetScale", f"{_UNABLE.replace('unable', 'able')}")
        if not look.history.recommendations:
            look.history.recommend(look.current, look.now)

    def _no_scale(self, look: Look, message: str) -> Stopped:
        self._recorder.event(look.hpa, "Warning", "FailedGetScale", message)
        look.say("AbleToScale", "False", "FailedGetScale", f"{_UNABLE}: {message}")
        return Stopped(message)

    async def _kinds(self, now: float) -> Discovered:
        if self._discovered is None or self._discovered[0] < now - _DISCOVERY_SECONDS:
            self._discovered = now, await discover(self._client)
        return self._discovered[1]

    def _target(self, look: Look, key: str) -> ScaledObject:
        status = status_of(look.scale)
        text = status.get("selector") or ""
        if not text:
            self._recorder.event(look.hpa, "Warning", "SelectorRequired", "selector is required")
            message = "the HPA target's scale is missing a selector"
            look.say("ScalingActive", "False", "InvalidSelector", message)
            raise Stopped("selector is required")
        try:
            selector = parse_label_selector(text)
        except SelectorError as error:
            wording = f"couldn't convert selector into a corresponding internal selector object: {error}"
            raise self._bad_selector(look, "InvalidSelector", wording) from error
        self._selectors[key] = selector
        pods = [pod for pod in self._pods.store.list(namespace_of(look.hpa)) if selector.matches(labels_of(pod))]
        rivals = self._rivals(namespace_of(look.hpa), pods)
        if len(rivals) > 1:
            named = " ".join(f"{namespace_of(look.hpa)}/{name}" for name in rivals)
            wording = f"pods by selector {text} are controlled by multiple HPAs: [{named}]"
            raise self._bad_selector(look, "AmbiguousSelector", wording)
        return ScaledObject(look.current, int(status.get("replicas") or 0), text, pods)

    def _bad_selector(self, look: Look, reason: str, message: str) -> Stopped:
        self._recorder.event(look.hpa, "Warning", reason, message)
        look.say("ScalingActive", "False", reason, message)
        return Stopped(message)

    def _rivals(self, namespace: str, pods: list[Object]) -> list[str]:
        """Names of the autoscalers that choose any of these pods."""
        rivals = []
        for key, selector in self._selectors.items():
            where, name = split_key(key)
            if where == namespace and any(selector.matches(labels_of(pod)) for pod in pods):
                rivals.append(name)
        return sorted(rivals)

    # The decision

    async def _autoscale(self, look: Look, key: str) -> None:
        spec, current = look.hpa["spec"], look.current
        least = spec.get("minReplicas")
        bounds = Bounds(1 if least is None else least, spec["maxReplicas"])
        metrics: list[Object] | None = None
        if current == 0:
            message = "scaling is disabled since the replica count of the target is zero"
            look.say("ScalingActive", "False", "ScalingDisabled", message)
            wanted, reason = current, ""
        elif current > bounds.most:
            wanted, reason = bounds.most, _ABOVE
        elif current < bounds.least:
            wanted, reason = bounds.least, _BELOW
        else:
            wanted, reason, metrics = await self._by_metrics(look, key, bounds)
        if wanted != current:
            await self._rescale(look, wanted, reason, metrics)
        look.count(current, wanted, metrics, rescaled=wanted != current)

    async def _by_metrics(self, look: Look, key: str, bounds: Bounds) -> tuple[int, str, list[Object]]:
        try:
            best, metrics = await self._evaluate(look, key)
        except Stopped as stopped:
            self._recorder.event(look.hpa, "Warning", "FailedComputeMetricsReplicas", str(stopped))
            raise
        current, wanted = look.current, best.replicas
        reason = ""
        if wanted != current:
            reason = f"{best.name} above target" if wanted > current else "All metrics below target"
        behavior = look.hpa["spec"].get("behavior")
        decision = decide(look.history, current, wanted, bounds, behavior, self._window, look.now)
        look.say("AbleToScale", "True", *decision.able)
        look.say("ScalingLimited", "True" if decision.is_limited else "False", *decision.limited)
        return decision.replicas, reason, metrics

    async def _evaluate(self, look: Look, key: str) -> tuple[Evaluated, list[Object]]:
        """The metric that asks for most, and the status of all.

        If some cannot be evaluated, the others may still ask for more replicas, but not for fewer.
        """
        look.count(look.current, look.status.get("desiredReplicas") or 0, None, rescaled=False)
        target = self._target(look, key)
        evaluation = Evaluation(
            self._metrics,
            self._startup,
            tolerance_of(look.hpa, self._tolerance),
            look.kinds,
            look.hpa,
            target,
            look.now,
        )
        specs = look.hpa["spec"].get("metrics") or []
        evaluations: list[Evaluated] = []
        failures: list[Failed] = []
        statuses: list[Object] = []
        for spec in specs:
            try:
                evaluations.append(await evaluation.evaluate(spec))
                statuses.append(evaluations[-1].status)
            except Failed as failed:
                self._recorder.event(look.hpa, "Warning", failed.reason, failed.text)
                failures.append(failed)
                statuses.append({"type": ""})
        best = max(evaluations, key=lambda one: one.replicas, default=None)
        if best is None or (failures and best.replicas < look.current):
            look.count(look.current, look.status["desiredReplicas"], statuses, rescaled=False)
            raise self._no_metric(look, failures, len(specs))
        message = f"the HPA was able to successfully calculate a replica count from {best.name}"
        look.say("ScalingActive", "True", "ValidMetricFound", message)
        return best, statuses

    @staticmethod
    def _no_metric(look: Look, failures: list[Failed], specs: int) -> Stopped:
        if not failures:
            return Stopped("no metrics are given")
        first = failures[0]
        message = f"the HPA was unable to compute the replica count: {first.text}"
        look.say("ScalingActive", "False", first.reason, message)
        return Stopped(f"invalid metrics ({len(failures)} invalid out of {specs}), first error is: {first}")

    async def _rescale(self, look: Look, wanted: int, reason: str, metrics: list[Object] | None) -> None:
        before = look.current
        try:
            await self._set_scale(look, wanted)
        except errors.ApiError as error:
            message = f"New size: {wanted}; reason: {reason}; error: {error.message}"
            self._recorder.event(look.hpa, "Warning", "FailedRescale", message)
            text = f"the HPA controller was unable to update the target scale: {error.message}"
            look.say("AbleToScale", "False", "FailedUpdateScale", text)
            look.count(before, look.status.get("desiredReplicas") or 0, metrics, rescaled=False)
            raise Stopped(message) from error
        text = f"the HPA controller was able to update the target scale to {wanted}"
        look.say("AbleToScale", "True", "SucceededRescale", text)
        self._recorder.event(look.hpa, "Normal", "SuccessfulRescale", f"New size: {wanted}; reason: {reason}")
        look.history.scaled(before, wanted, look.now)

    async def _set_scale(self, look: Look, wanted: int) -> None:
        name = look.hpa["spec"]["scaleTargetRef"]["name"]
        scale = look.scale
        for attempt in range(5):
            changed = {**scale, "spec": {**scale["spec"], "replicas": wanted}}
            try:
                await self._client.update(look.resource.path, changed, subresource="scale")
                return
            except errors.Conflict:
                if attempt == 4:
                    raise
                scale = await self._client.get(look.resource.path, name, namespace_of(look.hpa), subresource="scale")


def tolerance_of(hpa: Object, default: float) -> Tolerance:
    behavior = hpa["spec"].get("behavior") or {}

    def given(direction: str) -> float:
        text = (behavior.get(direction) or {}).get("tolerance")
        return default if text is None else Quantity(str(text)).as_float()

    return Tolerance(given("scaleDown"), given("scaleUp"))
