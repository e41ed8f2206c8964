"""
For ASGI services, whatever their framework: errors as answers, load shedding, deadlines from a header, operations.

    app = ResilienceMiddleware(app, shed=100, exempt=["/health"])
    operations = OperationsApp()           # mount it: JSON, a health check, the live page

Written against the ASGI specification alone; nothing is imported from a framework.
"""

from resilience.integrations.asgi.answers import Answer, answer_of
from resilience.integrations.asgi.middleware import ResilienceMiddleware
from resilience.integrations.asgi.operations import OperationsApp

__all__ = ["Answer", "OperationsApp", "ResilienceMiddleware", "answer_of"]
