"""Checks the stand-in rasterizer: against a per-pixel loop, and its gradients
(also with respect to the small camera motion) against finite differences.

    PYTHONPATH=stand_in python check_rasterizer.py
"""

import math

import diff_gaussian_rasterization as dgr
import torch
from diff_gaussian_rasterization import compositing
from diff_gaussian_rasterization.color import color_from_sh
from diff_gaussian_rasterization.shape import cross_matrix

F64 = torch.float64
H, W, TANX, TANY = 20, 24, 0.6, 0.5
BG = torch.tensor([0.1, 0.2, 0.3], dtype=F64)
ROW, COL = torch.triu_indices(3, 3)


def camera():
    w2c = torch.eye(4, dtype=F64)
    c, s = math.cos(0.2), math.sin(0.2)
    w2c[:3, :3] = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=F64)
    w2c[:3, 3] = torch.tensor([0.1, -0.2, 0.3], dtype=F64)
    near, far = 1.0, 100.0
    proj = torch.zeros(4, 4, dtype=F64)
    proj[0, 0], proj[1, 1], proj[3, 2] = 1 / TANX, 1 / TANY, 1
    proj[2, 2], proj[2, 3] = far / (far - near), -far * near / (far - near)
    return w2c, proj


def run(g, w2c=None, pose=False, **kwargs):
    base, proj = camera()
    w2c = base if w2c is None else w2c
    settings = dgr.GaussianRasterizationSettings(
        image_height=H,
        image_width=W,
        tanfovx=TANX,
        tanfovy=TANY,
        bg=BG,
        scale_modifier=1.0,
        viewmatrix=w2c.T,
        projmatrix=(proj @ w2c).T,
        sh_degree=2,
        campos=w2c.inverse()[:3, 3],
        prefiltered=False,
        debug=False,
        **({"projmatrix_raw": proj.T} if pose else {}),
    )
    return dgr.GaussianRasterizer(settings)(
        means3D=g["means"],
        means2D=torch.zeros_like(g["means"]),
        shs=g["shs"],
        opacities=g["opacities"],
        cov3D_precomp=g["cov"][:, ROW, COL],
        **kwargs,
    )


def per_pixel(g):
    w2c, _ = camera()
    fx, fy = W / (2 * TANX), H / (2 * TANY)
    rot = w2c[:3, :3]
    cam = g["means"] @ rot.T + w2c[:3, 3]
    color = color_from_sh(g["means"], w2c.inverse()[:3, 3], g["shs"], 2, True)
    image = torch.zeros(3, H, W, dtype=F64)
    for y in range(H):
        for x in range(W):
            trans, total = 1.0, torch.zeros(3, dtype=F64)
            for i in cam[:, 2].argsort().tolist():
                px, py, pz = cam[i].tolist()
                if pz <= 0.2:
                    continue
                u = max(-1.3 * TANX, min(1.3 * TANX, px / pz))
                v = max(-1.3 * TANY, min(1.3 * TANY, py / pz))
                jac = torch.tensor([[fx / pz, 0, -fx * u / pz], [0, fy / pz, -fy * v / pz]], dtype=F64)
                cov = jac @ rot @ g["cov"][i] @ rot.T @ jac.T + 0.3 * torch.eye(2, dtype=F64)
                d = torch.tensor(
                    [px / pz * fx + (W - 1) / 2 - x, py / pz * fy + (H - 1) / 2 - y],
                    dtype=F64,
                )
                alpha = float(g["opacities"][i] * torch.exp(-0.5 * d @ cov.inverse() @ d))
                alpha = min(0.99, alpha)
                if alpha < 1 / 255:
                    continue
                if trans * (1 - alpha) < 1e-4:
                    break
                total = total + trans * alpha * color[i]
                trans *= 1 - alpha
            image[:, y, x] = total + trans * BG
    return image


def main():
    torch.manual_seed(0)
    n = 40
    root = torch.randn(n, 3, 3, dtype=F64) * 0.12
    g = {
        "means": torch.randn(n, 3, dtype=F64) + torch.tensor([0, 0, 5.0], dtype=F64),
        "cov": root @ root.transpose(1, 2) + 1e-3 * torch.eye(3, dtype=F64),
        "opacities": torch.rand(n, 1, dtype=F64) * 0.8 + 0.1,
        "shs": torch.randn(n, 9, 3, dtype=F64) * 0.3,
    }
    # The loop has no three-sigma cut, so a small difference is expected.
    gap = (run(g)[0] - per_pixel(g)).abs().max().item()
    print(f"per-pixel loop: largest difference {gap:.2e}")
    assert gap < 1e-2

    weight = torch.randn(3, H, W, dtype=F64)
    worst = 0.0
    for chunk in (256, 7):  # also across chunk borders
        compositing.CHUNK = chunk
        for name in g:
            leaf = g[name].clone().requires_grad_(True)
            (run({**g, name: leaf})[0] * weight).sum().backward()
            step = torch.randn_like(leaf)
            if name == "cov":
                step = step + step.transpose(1, 2)
            with torch.no_grad():
                e = 1e-6
                up = (run({**g, name: leaf + e * step})[0] * weight).sum()
                down = (run({**g, name: leaf - e * step})[0] * weight).sum()
            want = ((up - down) / (2 * e)).item()
            have = (leaf.grad * step).sum().item()
            worst = max(worst, abs(want - have) / max(1.0, abs(want)))
            print(f"d/d{name}: {have:.6f}, finite differences {want:.6f}")

    def pose_value(out):
        return (out[0] * weight).sum() + out[2].sum() + out[3].sum()

    theta, rho = (torch.zeros(3, dtype=F64, requires_grad=True) for _ in range(2))
    pose_value(run(g, pose=True, theta=theta, rho=rho)).backward()
    for k in range(6):
        values = []
        for e in (1e-6, -1e-6):
            motion = torch.zeros(4, 4, dtype=F64)
            twist = torch.zeros(6, dtype=F64)
            twist[k] = e
            motion[:3, :3], motion[:3, 3] = cross_matrix(twist[3:]), twist[:3]
            w2c = torch.matrix_exp(motion) @ camera()[0]
            with torch.no_grad():
                values.append(pose_value(run(g, w2c=w2c, pose=True)).item())
        want = (values[0] - values[1]) / 2e-6
        have = torch.cat([rho.grad, theta.grad])[k].item()
        worst = max(worst, abs(want - have) / max(1.0, abs(want)))
        print(f"d/dmotion[{k}]: {have:.6f}, finite differences {want:.6f}")
    assert worst < 1e-5, worst
    print("ok")


if __name__ == "__main__":
    main()
