"""Campaign activities as Prefect tasks, in the palette's groups, over packages by theme; `flows` compose them.

Groups: targeting, data_management, content, channels, execution; one activity a file. An activity is one decorated
function of tables (`tasks.runs.shapes`, `tasks.runs.sink`). Packages by theme, from the lowest: tables, runs,
http, files, templates, lowering, messages, sources, endpoint, feedback, delivery; each may use those before it, and
the flat modules errors, settings, send, privacy and extras.
"""

from tasks.http import log as http_log
from tasks.runs import log as run_log

# Here, because a worker imports `tasks.*` and nothing else of ours before it runs a flow.
run_log.install_filter()
http_log.install_filter()
