"""A TCP proxy that adds latency and counts connections.

netem is not in every kernel, so the delay is made here: what comes in on one side goes out on the other half a round trip
later, in order. The first bytes of a connection wait a round trip more, since a handshake over such a link would have.
Bandwidth, loss and slow start are not imitated.
"""
import asyncio
import collections
import socket


class Proxy:
    """`connections` and `upgraded` count since the last `reset`."""

    def __init__(self, target, round_trip):
        self.target, self.round_trip = target, round_trip
        self.reset()

    def reset(self):
        self.connections = self.upgraded = 0

    async def start(self):
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Side(self), "127.0.0.1", 0, family=socket.AF_INET)
        self.address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
        return self


class Side(asyncio.Protocol):
    """One side of a connection: the client's, or (with a `peer` from the start) the server's."""

    def __init__(self, proxy, peer=None):
        self.proxy, self.peer, self.transport = proxy, peer, None
        self.loop = asyncio.get_running_loop()
        # what waits for its time on the way out of this side: (due, bytes; None for the end)
        self.waiting, self.timer, self.began = collections.deque(), None, None
        self.seen_any = False

    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.peer is None:
            self.proxy.connections += 1
            self.began = self.loop.time()
            self.peer = Side(self.proxy, self)
            self.connecting = self.loop.create_task(self._connect())
        else:
            self._send()

    async def _connect(self):
        host, port = self.proxy.target.split(":")
        try:
            await self.loop.create_connection(lambda: self.peer, host, int(port))
        except OSError:
            self.transport.abort()

    def data_received(self, data):
        if self.began is None and not self.seen_any:
            self.proxy.upgraded += data.startswith(b"HTTP/1.1 101")
        self.seen_any = True
        self._pass_on(data)

    def eof_received(self):
        self._pass_on(None)
        return True

    def connection_lost(self, _):
        self._pass_on(None)

    def _pass_on(self, data):
        now, trip = self.loop.time(), self.proxy.round_trip
        due = now + trip / 2
        if self.began is not None:
            due = max(due, self.began + trip * 1.5)
        self.peer.waiting.append((due, data))
        self.peer._send()

    def _send(self):
        """Writes what is due, and comes again when the next is."""
        if self.transport is None or self.timer is not None:
            return
        while self.waiting:
            due, data = self.waiting[0]
            if self.proxy.round_trip and due > self.loop.time():
                self.timer = self.loop.call_at(due, self._again)
                return
            self.waiting.popleft()
            if self.transport.is_closing():
                continue
            if data is None:
                self.transport.close()
            else:
                self.transport.write(data)

    def _again(self):
        self.timer = None
        self._send()
