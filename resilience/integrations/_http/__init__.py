"""What the HTTP clients' adapters share: options, the rules of repeating a request, one guard per host, errors."""
