"""Multi-scale deformable attention for the CPU, with mmcv's interface.

One weighted `embedding_bag` over the four bilinear neighbors of every sampling
point, so that the samples are never stored (four times the output for TransPlat,
whose output is 1 GB at 256x256 with a batch of two).
"""

import torch
import torch.nn.functional as F


def multi_scale_deformable_attn_pytorch(value, value_spatial_shapes, sampling_locations, attention_weights):
    """value (b, keys, heads, c); spatial shapes (levels, 2) as (rows, columns);
    locations (b, q, heads, levels, points, 2) as (x, y), where 0 and 1 are the
    borders of the map; weights (b, q, heads, levels, points).
    Returns (b, q, heads * c).  Outside of the map everything is zero."""
    b, keys, heads, channels = value.shape
    queries = sampling_locations.shape[1]
    rows, weights, start = [], [], 0
    for level, (h, w) in enumerate(torch.as_tensor(value_spatial_shapes).tolist()):
        where = sampling_locations[:, :, :, level]
        x, y = where[..., 0] * w - 0.5, where[..., 1] * h - 0.5
        left, top = x.detach().floor(), y.detach().floor()
        for cx in (left, left + 1):
            for cy in (top, top + 1):
                inside = (cx >= 0) & (cx < w) & (cy >= 0) & (cy < h)
                share = (1 - (x - cx).abs()) * (1 - (y - cy).abs())
                weights.append(attention_weights[:, :, :, level] * share * inside)
                rows.append(start + cy.clamp(0, h - 1).long() * w + cx.clamp(0, w - 1).long())
        start += h * w
    first = keys * torch.arange(b * heads, device=value.device).view(b, 1, heads, 1)
    rows = torch.cat(rows, -1) + first
    weights = torch.cat(weights, -1)
    out = F.embedding_bag(
        rows.flatten(0, 2),
        value.transpose(1, 2).reshape(-1, channels),
        per_sample_weights=weights.flatten(0, 2),
        mode="sum",
    )
    return out.view(b, queries, heads * channels)
