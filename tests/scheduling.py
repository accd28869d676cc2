"""Which tests stay together where several processes run them: each is by itself, but for those that share much.

pytest-xdist's own groups (`xdist_group`) do not hold with pytest 9.2: xdist 3.8 marks them in a name that is gone.
"""

import re
from collections import OrderedDict

from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "a composed server": r"deployments/test_compose\.py",
    "a served server": r"deployments/test_serve\.py",
    "a Dask cluster": r"flows/test_any_size\.py.*\[dask",
    "a Ray runtime": r"(flows/test_any_size|tasks/runs/test_engine)\.py.*\[ray",
    "an installed wheel": r"deployments/test_wheel\.py",
    "a worker": r"tasks/execution/test_(wait|external_signal)\.py",
    "places": r"tasks/data_management/test_transfer_file\.py",
    "a mailbox": r"tasks/feedback/mailboxes/",
    "a browser of mails": r"tasks/content/test_hostile\.py",
}
"""What is shared, and the tests that share it."""

LONG = (
    r"^a composed server$",
    r"^a served server$",
    r"test_local_server",
    r"^an installed wheel$",
    r"test_leaks",
    r"test_documents_by_lot",
    r"killed_at_random_points",
    r"test_killed",
    r"test_birthday_delivery",
    r"test_email_faults",
    r"test_seats",
    r"test_private_files",
    r"^a (Dask|Ray) ",
    r"test_random_campaigns",
    r"test_lowering\.py.*random",
    r"test_(watched_preview|sandbox|unsubscribe|terminal)\.py",
    r"flows/",
)
"""What takes long, the longest first: begun last, it would keep one process busy and the others idle."""


def _place(unit: str, tests: int) -> tuple[int, int]:
    """Where in the queue a group or a test stands: what is long, then large groups."""
    return next((place for place, long in enumerate(LONG) if re.search(long, unit)), len(LONG)), -tests


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """What takes long first, then the largest groups, then each test where a process is free."""

    ordered = False

    def _split_scope(self, nodeid: str) -> str:
        return next((shared for shared, tests in TOGETHER.items() if re.search(tests, nodeid)), nodeid)

    def _assign_work_unit(self, node: object) -> None:
        if not self.ordered:
            units = sorted(self.workqueue.items(), key=lambda unit: _place(unit[0], len(unit[1])))
            self.workqueue = OrderedDict(units)
            self.ordered = True
        super()._assign_work_unit(node)

    def _pending_of(self, workload: dict[str, dict[str, bool]]) -> int:
        """What is done is forgotten: thousands of tests, each a unit, would be counted after every test."""
        for done in [unit for unit, tests in workload.items() if all(tests.values())]:
            del workload[done]
        return int(super()._pending_of(workload))
