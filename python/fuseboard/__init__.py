"""Run plugins that you don't trust inside your Python application, behind a fuse for each resource."""

from fuseboard._artifacts import ArtifactCache
from fuseboard._async_host import AsyncHost
from fuseboard._breaker import Breaker, BreakerChange, BreakerEvent, BreakerPolicy, BreakerState
from fuseboard._compile_process import CompileLimits
from fuseboard._errors import (
    BackendError,
    BackendTimeout,
    FuseboardError,
    GuestFault,
    HookFailed,
    HookTypeError,
    HostClosed,
    InstanceBusy,
    InvocationError,
    LimitTripped,
    LoadError,
    ManifestError,
    ModuleError,
    UnknownHook,
    UnknownPlugin,
    UsageError,
)
from fuseboard._functions import Call, HostFunction, host_function
from fuseboard._grants import Grants
from fuseboard._hooks import Action, Filter
from fuseboard._host import Host
from fuseboard._limits import Caps, Limit, Limits
from fuseboard._outcome import (
    Cause,
    Completed,
    Dispatch,
    Frame,
    Meter,
    Meters,
    Outcome,
    Skipped,
    SkipReason,
    Trap,
    Trapped,
)
from fuseboard._plugin import Plugin
from fuseboard._snapshot import Snapshot, SnapshotRefusal, SnapshotState
from fuseboard.backends import Backends

__all__ = [
    "Action",
    "ArtifactCache",
    "AsyncHost",
    "BackendError",
    "BackendTimeout",
    "Backends",
    "Breaker",
    "BreakerChange",
    "BreakerEvent",
    "BreakerPolicy",
    "BreakerState",
    "Call",
    "Caps",
    "Cause",
    "CompileLimits",
    "Completed",
    "Dispatch",
    "Filter",
    "Frame",
    "FuseboardError",
    "Grants",
    "GuestFault",
    "HookFailed",
    "HookTypeError",
    "Host",
    "HostClosed",
    "HostFunction",
    "InstanceBusy",
    "InvocationError",
    "Limit",
    "LimitTripped",
    "Limits",
    "LoadError",
    "ManifestError",
    "Meter",
    "Meters",
    "ModuleError",
    "Outcome",
    "Plugin",
    "SkipReason",
    "Skipped",
    "Snapshot",
    "SnapshotRefusal",
    "SnapshotState",
    "Trap",
    "Trapped",
    "UnknownHook",
    "UnknownPlugin",
    "UsageError",
    "host_function",
]
