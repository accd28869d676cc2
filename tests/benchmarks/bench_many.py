"""A call for each key: this project's many calls against a plain loop of httpx.AsyncClient.

`python tests/benchmarks/bench_many.py` asks a server of 20 ms, in a process of its own, for 1,000 keys over HTTPS
on loopback, 20 at a time: by `fetch_many` with every guard on (names, limits, clocks, retries, pages, typed rows
with their keys), and by a loop that only gets and parses. Prints medians and the ratio of their rates.
"""

import argparse
import asyncio
import json
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import polars as pl
import trustme

from tasks.endpoint.call import EndpointCall
from tasks.endpoint.endpoint import Endpoint
from tasks.endpoint.many import fetch_many

PARALLEL = 20
SERVER = """
import asyncio, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
BODY = b'{"rows": [{"day": 1, "highest": 7.5}, {"day": 2, "highest": 8.25}]}'
HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(BODY)
async def serve(reader, writer):
    try:
        while await reader.readuntil(b"\\r\\n\\r\\n"):
            await asyncio.sleep(0.020)
            writer.write(HEAD + BODY)
    except asyncio.IncompleteReadError:
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def ours(count: int, address: str, ca_file: Path) -> int:
    endpoint = Endpoint(
        name="weather",
        method="GET",
        url=f"{address}/${{row.key}}",
        ca_file=ca_file,
        inbound={"columns": {"key": "key"}},
        outbound={
            "path": "rows",
            "columns": {"day": {"key": "day", "type": "integer"}, "highest": {"key": "highest", "type": "number"}},
        },
        calls={"parallel": PARALLEL},
    )
    keys = pl.DataFrame({"key": [f"k{number}" for number in range(count)]})
    return fetch_many(EndpointCall(keys, endpoint), endpoint.calls, frozenset({"localhost"})).answer.standard.height


def plain(count: int, address: str, ca_file: Path) -> int:
    async def run() -> int:
        left, rows = iter(range(count)), []
        context = ssl.create_default_context(cafile=ca_file)
        limits = httpx.Limits(max_connections=PARALLEL, max_keepalive_connections=PARALLEL)
        async with httpx.AsyncClient(verify=context, limits=limits) as client:

            async def work() -> None:
                for number in left:
                    answer = await client.get(f"{address}/k{number}")
                    rows.extend(json.loads(answer.content)["rows"])

            await asyncio.gather(*(work() for _ in range(PARALLEL)))
        return len(rows)

    return asyncio.run(run())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--keys", type=int, default=1_000)
    options = parser.parse_args()
    rounds, keys = options.rounds, options.keys
    with tempfile.TemporaryDirectory() as folder:
        authority = trustme.CA()
        ca_file, certificate = Path(folder, "ca.pem"), Path(folder, "server.pem")
        authority.cert_pem.write_to_path(ca_file)
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
        command = [sys.executable, "-c", SERVER, str(certificate)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                address = f"https://localhost:{server.stdout.readline().strip()}"
                figures = {"this project": (ours, []), "httpx.AsyncClient": (plain, [])}
                for number in range(rounds + 1):
                    for work, seconds in figures.values():
                        begun = time.perf_counter()
                        assert work(keys, address, ca_file) == 2 * keys
                        if number:
                            seconds.append(time.perf_counter() - begun)
            finally:
                server.kill()
    print(f"{keys:,} keyed calls to a server of 20 ms, {PARALLEL} at a time; medians of {rounds} rounds in turn.")
    medians = {name: statistics.median(seconds) for name, (_, seconds) in figures.items()}
    for name, (_, seconds) in figures.items():
        print(f"  {name:<20} {medians[name]:6.2f} s   ({min(seconds):.2f} to {max(seconds):.2f})")
    print(f"  ours has {medians['httpx.AsyncClient'] / medians['this project']:.2f} of its rate")


if __name__ == "__main__":
    main()
