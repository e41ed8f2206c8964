"""
Adapters for other libraries, each an extra of its own: ``resilience.integrations.<library>``.

The rest of the package imports nothing from here.
"""
