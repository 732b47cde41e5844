"""The cells of TofuSoup's own pytest matrix for Python with Python, without pytest: for each case a
KVClient that starts a fresh server, a put, two gets, and its end, one after the other in one process.
Called by benches/tofusoup.rs: TIMES, then prints seconds per case, imports not counted.
"""

import asyncio
import os
import sys
import tempfile
import time

from tofusoup.rpc.client import KVClient

SOUP = os.path.join(os.path.dirname(sys.executable), "soup")
CRYPTO = [
    ("auto", "rsa", ""), ("auto", "rsa", ""), ("auto", "ec", "secp256r1"), ("auto", "ec", "secp384r1"),
    ("auto", "ec", "secp521r1"), ("disabled", "ec", "secp384r1"),
]  # fmt: skip


async def cell(mode: str, key_type: str, curve: str, transport: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KV_STORAGE_DIR"] = folder
        client = KVClient(SOUP, tls_mode=mode, tls_key_type=key_type, tls_curve=curve, transport=transport)
        try:
            await client.start()
            await client.put("key", b"value")
            assert await client.get("key") == b"value"
            assert await client.get("absent") is None
        finally:
            await client.close()


async def main(times: int) -> None:
    begun = time.monotonic()
    for _ in range(times):
        for transport in ("tcp", "unix"):
            for crypto in CRYPTO:
                await cell(*crypto, transport)
    print((time.monotonic() - begun) / (times * 2 * len(CRYPTO)))


asyncio.run(main(int(sys.argv[1])))
