"""The ASGI side: the layers of the request path, the health app, and the bridge to gateways."""
