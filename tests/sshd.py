"""An SSH server on the loopback, which runs commands as sshd does."""

import asyncio
import contextlib
import os
import signal
import threading

import asyncssh


@contextlib.contextmanager
def serving(*, obeys_signals=True):
    """What `asyncssh.connect` needs for a server that runs as long as the block.

    Older servers pass no signals on to what they run.
    """
    host_key, user_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    started, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    found = {}

    async def run(process):
        child = await asyncio.create_subprocess_shell(
            process.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )

        def received(name):
            if obeys_signals:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, getattr(signal, f"SIG{name}"))

        process.signal_received = received
        try:
            # One end of file is all that a session has: with that of stdout, what comes on
            # stderr later would be cut off.
            await process.redirect(stdout=child.stdout, stderr=child.stderr, send_eof=False)
            status = await child.wait()
            await process.stdout.drain()
            await process.stderr.drain()
            process.exit(status if status >= 0 else 255)
        finally:  # of those who are cut off, too
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                await child.wait()
            child._transport.close()  # asyncio has no other way to close its pipes

    async def serve():
        keys = asyncssh.import_authorized_keys(user_key.export_public_key().decode())
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[host_key],
            authorized_client_keys=keys,
            process_factory=run,
        )
        found["port"] = server.get_port()
        started.set()
        await stop.wait()
        server.close()
        await server.wait_closed()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:  # what clients have left
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    started.wait()
    port = found["port"]
    line = f"[127.0.0.1]:{port} {host_key.export_public_key().decode()}"
    try:
        yield {
            "port": port,
            "username": "somebody",
            "client_keys": [user_key],
            "known_hosts": asyncssh.import_known_hosts(line),
        }
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
