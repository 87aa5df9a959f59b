"""The loopback Hub's storage of large files: signed addresses, uploads whole or in parts."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import shutil
import time
from typing import TYPE_CHECKING, Any

from hub_accounts import readable, writable
from hub_answers import Content, Refused
from hub_store import sha256_of
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from pathlib import Path

    from server import Hub
    from starlette.requests import Request


def signature(hub: Hub, told: str) -> str:
    return hmac.new(hub.secret, told.encode(), "sha256").hexdigest()


def signed(hub: Hub, path: str) -> str:
    """Return an address at the other origin that opens `path` for a while."""
    hub.signatures += 1
    expires, number = time.time() + hub.signed_lifetime_s, hub.signatures
    told = f"{path}?Expires={expires}&Number={number}"
    return f"{hub.storage_url}{told}&X-Signature={signature(hub, told)}"


def admit(request: Request) -> None:
    """Refuse a token, a wrong or an outworn signature."""
    hub, query = request.app.state.hub, request.query_params
    if "Authorization" in request.headers:
        raise Refused(400, "Only one auth mechanism allowed")
    told = f"{request.url.path}?Expires={query.get('Expires')}&Number={query.get('Number')}"
    if not hmac.compare_digest(query.get("X-Signature", ""), signature(hub, told)):
        raise Refused(403, "SignatureDoesNotMatch")
    hub.signed_used[told] += 1
    outworn = hub.signed_uses is not None and hub.signed_used[told] > hub.signed_uses
    if outworn or float(query["Expires"]) < time.time():
        raise Refused(403, "Request has expired")


async def stored(request: Request) -> Response:
    admit(request)
    blob = request.app.state.hub.objects.get(request.path_params["sha256"])
    if blob is None:
        raise Refused(404, "NoSuchKey")
    return Content(request, blob.content, {"ETag": f'"{blob.sha256}"'})


async def batch(request: Request) -> Response:
    """Answer for each object: where to put it, or that it is there."""
    asked = await request.json()
    (writable if asked["operation"] == "upload" else readable)(request)
    hub: Hub = request.app.state.hub
    parts = "multipart" in asked.get("transfers", ["basic"])
    large = [o for o in asked["objects"] if parts and o["size"] > hub.part_nbytes]
    rows = [row(hub, request.path_params["repo"], o, parts) for o in asked["objects"]]
    answer = {"transfer": "multipart" if large else "basic", "objects": rows}
    return JSONResponse(answer, media_type="application/vnd.git-lfs+json")


def row(hub: Hub, name: str, wanted: dict[str, Any], parts: bool) -> dict[str, Any]:
    sha256, nbytes = wanted["oid"], wanted["size"]
    if hub.objects.get(sha256):
        return {"oid": sha256, "size": nbytes}
    path = f"/upload/{sha256}/{nbytes}"
    upload: dict[str, Any] = {"href": signed(hub, path)}
    if parts and nbytes > hub.part_nbytes:
        n_parts = -(-nbytes // hub.part_nbytes)
        places = {f"{i:05d}": signed(hub, f"{path}/{i}") for i in range(1, n_parts + 1)}
        upload["header"] = {"chunk_size": str(hub.part_nbytes), **places}
    verify = {"href": f"{hub.url}/{name}/info/lfs/verify"}
    return {"oid": sha256, "size": nbytes, "actions": {"upload": upload, "verify": verify}}


async def receive(request: Request, place: Path) -> str:
    """Write a request's body to a file; return its sha256."""
    digest = hashlib.sha256()
    with place.open("wb", buffering=0) as file:
        async for block in request.stream():
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def temporary(request: Request, ending: str = "") -> Path:
    """Return a name no other request writes to."""
    hub = request.app.state.hub
    hub.signatures += 1
    return hub.incoming / f"{hub.signatures}{ending}"


async def put_whole(request: Request) -> Response:
    admit(request)
    place = temporary(request)
    sha256, nbytes = request.path_params["sha256"], request.path_params["nbytes"]
    found = await receive(request, place)
    if found != sha256 or place.stat().st_size != nbytes:
        place.unlink()
        raise Refused(400, "BadDigest")
    request.app.state.hub.objects.take(place, sha256)
    return Response(headers={"ETag": f'"{sha256}"'})


def part_place(request: Request, part: int) -> Path:
    return request.app.state.hub.incoming / f"{request.path_params['sha256']}.{part}"


async def put_part(request: Request) -> Response:
    admit(request)
    hub, part = request.app.state.hub, request.path_params["part"]
    place = temporary(request)
    etag = await receive(request, place)
    wanted = min(hub.part_nbytes, request.path_params["nbytes"] - (part - 1) * hub.part_nbytes)
    if place.stat().st_size != wanted:
        place.unlink()
        raise Refused(400, "BadPart")
    place.replace(part_place(request, part))
    return Response(headers={"ETag": f'"{etag}"'})


async def complete(request: Request) -> Response:
    """Join the parts, which are taken away one by one: no two copies on disk."""
    admit(request)
    asked = json.loads(await request.body())
    sha256 = request.path_params["sha256"]
    parts = [(p["partNumber"], p["etag"].strip('"')) for p in asked["parts"]]
    places = [part_place(request, number) for number, _ in parts]
    if asked["oid"] != sha256 or not all(p.is_file() for p in places):
        raise Refused(400, "InvalidPart")
    place = temporary(request)
    await asyncio.to_thread(join, places, place)
    if (await asyncio.to_thread(sha256_of, place)) != sha256:
        place.unlink()
        raise Refused(400, "BadDigest")
    request.app.state.hub.objects.take(place, sha256)
    return JSONResponse({})


def join(parts: list[Path], place: Path) -> None:
    with place.open("wb") as whole:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)
            part.unlink()


async def verify(request: Request) -> Response:
    writable(request)
    asked = await request.json()
    blob = request.app.state.hub.objects.get(asked["oid"])
    if blob is None or blob.nbytes != asked["size"]:
        raise Refused(404, "Object does not exist")
    return JSONResponse({"message": "Object verified"})


ROUTES = [
    Route("/{repo:repo}/info/lfs/objects/batch", batch, methods=["POST"]),
    Route("/{repo:repo}/info/lfs/verify", verify, methods=["POST"]),
]
STORAGE = [
    Route("/cdn/{sha256}", stored),
    Route("/upload/{sha256}/{nbytes:int}", put_whole, methods=["PUT"]),
    Route("/upload/{sha256}/{nbytes:int}", complete, methods=["POST"]),
    Route("/upload/{sha256}/{nbytes:int}/{part:int}", put_part, methods=["PUT"]),
]
