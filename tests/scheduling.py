"""Which tests stay together where several processes run them: each is by itself, but for those that share much.

pytest-xdist's own groups (`xdist_group`) do not hold with pytest 9.2: xdist 3.8 marks them in a name that is gone.
"""

import re

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
}
"""What is shared, and the tests that share it."""


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Largest groups first, then each test where a process is free."""

    def _split_scope(self, nodeid: str) -> str:
        return next((shared for shared, tests in TOGETHER.items() if re.search(tests, nodeid)), nodeid)
