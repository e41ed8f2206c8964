"""The shim: the old path, the new circuit; ``APP_BREAKERS=old`` switches back without a change at any call site."""

import os

if os.environ.get("APP_BREAKERS", "resilience") == "old":
    from tests.compat.old_names import *  # noqa: F403 - as the shim is written
else:
    from resilience.compat.unified import *  # noqa: F403
