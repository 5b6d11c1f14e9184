"""Write a small synthetic data set in the chunk format of RealEstate10K readers.

Layout below OUT::

    train/000000.torch ...   lists of scenes, saved with torch.save
    train/index.json         {scene key: chunk file name}
    test/...                 the same for the held-out scenes
    evaluation_index.json    {test key: {"context": [a, b], "target": [...]}}

A scene is a dict: ``key`` (str), ``url`` (str), ``timestamps`` (int64, n),
``cameras`` (float32, n x 18: fx fy cx cy 0 0 and the 3x4 world-to-camera matrix
row by row, intrinsics in units of image width and height) and ``images`` (a
list of n uint8 vectors, each a whole JPEG file).

The scenes are rooms with textured walls and a few textured boxes, ray cast
with numpy; the camera slides sideways and turns a little.  Same arguments and
seed, same scenes.

    python make_re10k_like.py OUT [--train 6] [--test 3] [--frames 30]
                              [--height 360] [--width 640] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image


class Texture:
    """A smooth random color pattern on a face, plus a checker for edges."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.base = rng.uniform(0.25, 0.8, 3)
        self.freq = rng.normal(0.0, 2.2, (5, 2))
        self.phase = rng.uniform(0, 2 * np.pi, 5)
        self.amp = rng.normal(0.0, 0.11, (5, 3))
        self.check = rng.uniform(0.6, 1.8)
        self.check_gain = rng.uniform(0.05, 0.18)

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        arg = a[:, None] * self.freq[:, 0] + b[:, None] * self.freq[:, 1] + self.phase
        color = self.base + np.sin(arg) @ self.amp
        odd = (np.floor(a * self.check) + np.floor(b * self.check)) % 2
        return color * (1.0 - self.check_gain * odd[:, None])


class Room:
    """The inside of one big box with smaller boxes in it (x right, y down, z ahead)."""

    def __init__(self, rng: np.random.Generator) -> None:
        half_w, half_h = rng.uniform(3.0, 4.5), rng.uniform(1.8, 2.6)
        depth = rng.uniform(8.0, 12.0)
        self.room = np.array([[-half_w, -half_h, -3.0], [half_w, half_h, depth]])
        self.room_tex = [[Texture(rng) for _ in range(2)] for _ in range(3)]
        self.boxes, self.box_tex = [], []
        for _ in range(int(rng.integers(3, 7))):
            size = rng.uniform(0.4, 1.4, 3)
            center = np.array(
                [
                    rng.uniform(-0.7, 0.7) * half_w,
                    rng.uniform(-0.2, 0.8) * half_h,
                    rng.uniform(3.5, depth - 1.5),
                ]
            )
            self.boxes.append(np.stack([center - size / 2, center + size / 2]))
            self.box_tex.append([[Texture(rng) for _ in range(2)] for _ in range(3)])

    def cast(self, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Colors (n, 3) and ray parameters (n,) for rays leaving one point."""
        n = rays.shape[0]
        safe = np.where(np.abs(rays) < 1e-9, 1e-9, rays)
        index = np.arange(n)

        # The room is seen from inside: the first wall crossed going out.
        far = np.where(safe > 0, self.room[1], self.room[0])
        t_axes = (far - origin) / safe
        axis = t_axes.argmin(1)
        best = t_axes[index, axis]
        side = (safe[index, axis] > 0).astype(int)
        owner = np.full(n, -1)

        for k, box in enumerate(self.boxes):
            t0, t1 = (box[0] - origin) / safe, (box[1] - origin) / safe
            enter, leave = np.minimum(t0, t1), np.maximum(t0, t1)
            t_in, t_out = enter.max(1), leave.min(1)
            hit = (t_in < t_out) & (t_in > 1e-3) & (t_in < best)
            if not hit.any():
                continue
            face = enter.argmax(1)
            best = np.where(hit, t_in, best)
            axis = np.where(hit, face, axis)
            side = np.where(hit, (safe[index, face] < 0).astype(int), side)
            owner = np.where(hit, k, owner)

        points = origin + best[:, None] * rays
        color = np.zeros((n, 3))
        for k in range(-1, len(self.boxes)):
            textures = self.room_tex if k < 0 else self.box_tex[k]
            for ax in range(3):
                u, v = [i for i in range(3) if i != ax]
                for s in range(2):
                    pick = (owner == k) & (axis == ax) & (side == s)
                    if pick.any():
                        shade = (1.0, 0.8, 0.92)[ax] * (1.0, 0.9)[s]
                        color[pick] = shade * textures[ax][s](points[pick, u], points[pick, v])
        return color.clip(0, 1), best


def camera_path(rng: np.random.Generator, frames: int) -> np.ndarray:
    """World-to-camera matrices (frames, 4, 4), OpenCV axes."""
    t = np.linspace(-0.5, 0.5, frames)
    length = rng.uniform(1.2, 2.0) * rng.choice([-1.0, 1.0])
    rise, push = rng.uniform(-0.25, 0.25), rng.uniform(-0.3, 0.6)
    yaw = -rng.uniform(0.02, 0.16) * np.sign(length) * t * 2
    pitch = rng.uniform(-0.04, 0.04) + 0.03 * np.sin(2 * np.pi * t)
    out = np.tile(np.eye(4), (frames, 1, 1))
    for i in range(frames):
        cy, sy, cp, sp = np.cos(yaw[i]), np.sin(yaw[i]), np.cos(pitch[i]), np.sin(pitch[i])
        turn_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        turn_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        c2w = turn_y @ turn_x
        center = np.array([length * t[i], rise * t[i], push * t[i]])
        out[i, :3, :3] = c2w.T
        out[i, :3, 3] = -c2w.T @ center
    return out


def render(room: Room, w2c: np.ndarray, intr: np.ndarray, height: int, width: int) -> np.ndarray:
    fx, fy, cx, cy = intr
    u = (np.arange(width) + 0.5) / width
    v = (np.arange(height) + 0.5) / height
    uu, vv = np.meshgrid(u, v)
    rays = np.stack([(uu - cx) / fx, (vv - cy) / fy, np.ones_like(uu)], -1).reshape(-1, 3)
    rot = w2c[:3, :3]
    origin = -rot.T @ w2c[:3, 3]
    color, _ = room.cast(origin, rays @ rot)
    return (color.reshape(height, width, 3) * 255 + 0.5).astype(np.uint8)


def make_scene(key: str, seed: list[int], args: argparse.Namespace) -> dict:
    rng = np.random.default_rng(seed)
    room, path = Room(rng), camera_path(rng, args.frames)
    fx = rng.uniform(0.48, 0.6)
    intr = np.array([fx, fx * args.width / args.height, 0.5, 0.5])
    small = (
        max(8, round(args.height * args.render_scale)),
        max(8, round(args.width * args.render_scale)),
    )
    cameras = np.zeros((args.frames, 18), dtype=np.float32)
    cameras[:, :4] = intr
    cameras[:, 6:] = path[:, :3].reshape(args.frames, 12)
    images = []
    for i in range(args.frames):
        image = Image.fromarray(render(room, path[i], intr, *small))
        image = image.resize((args.width, args.height), Image.BICUBIC)
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=args.quality)
        images.append(torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8))
    return {
        "key": key,
        "url": f"synthetic://{key}",
        "timestamps": torch.arange(args.frames, dtype=torch.int64) * 33_333,
        "cameras": torch.from_numpy(cameras),
        "images": images,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=6, help="scenes to train on")
    parser.add_argument("--test", type=int, default=3, help="scenes held out")
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument(
        "--render-scale", type=float, default=0.5, help="ray cast at this fraction of the size, then enlarge"
    )
    parser.add_argument("--quality", type=int, default=92)
    parser.add_argument("--chunk", type=int, default=3, help="scenes in a chunk")
    parser.add_argument("--gap", type=int, default=12, help="frames between the context views of the evaluation index")
    parser.add_argument("--targets", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    for part, (stage, count) in enumerate((("train", args.train), ("test", args.test))):
        folder = args.out / stage
        folder.mkdir(parents=True, exist_ok=True)
        index: dict[str, str] = {}
        for first in range(0, count, args.chunk):
            scenes = [
                make_scene(f"{stage}{i:04d}", [args.seed, part, i], args)
                for i in range(first, min(count, first + args.chunk))
            ]
            name = f"{first // args.chunk:06d}.torch"
            torch.save(scenes, folder / name)
            index.update({scene["key"]: name for scene in scenes})
            print(f"{stage}/{name}: {len(scenes)} scenes", flush=True)
        (folder / "index.json").write_text(json.dumps(index))

    gap = min(args.gap, args.frames - 1)
    left = (args.frames - 1 - gap) // 2
    targets = np.linspace(left + 1, left + gap - 1, args.targets).round().astype(int)
    entry = {"context": [left, left + gap], "target": [int(t) for t in targets]}
    evaluation = {f"test{i:04d}": entry for i in range(args.test)}
    (args.out / "evaluation_index.json").write_text(json.dumps(evaluation))


if __name__ == "__main__":
    main()
