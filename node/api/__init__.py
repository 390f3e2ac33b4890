"""The HTTP and WebSocket API of a node.

    url = await nursery.start(serve_api, node, "127.0.0.1", 8001)

`route` says what a route is, `application` has the table of all of them, `door` what holds for
every request, `stream` and `hub` the subscriptions, `server` and `connection` the TCP side.
"""
