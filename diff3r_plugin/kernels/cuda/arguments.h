// What the GPU kernels are given besides math/inputs.h and math/charts.h: raw device pointers to contiguous row-major arrays, and
// sizes. A launch copies its arguments one after the other, so all of them are words of eight bytes: no compiler pads these.
#pragma once

#include "math/charts.h"
#include "math/inputs.h"

extern "C" {

// What a kernel does not name may be null.
struct Diff3rDeviceScene {
    Diff3rInputs inputs;
    double alpha_cap;  // largest alpha of one splat at one pixel: that of the rasterizer that rendered the image
    // The splats, in the layout of gsplat; written by the kernel project.
    void* means2d;            // [I, N, 2], px
    void* conics;             // [I, N, 3]
    void* colors;             // [I, N, 3]
    void* splat_opacities;    // [I, N]
    void* depths;             // [I, N]
    void* reaches;            // [I, N, 2], px: how far from its center its alpha may reach the skip threshold
    int32_t* radii;           // [I, N, 2], px; 0: not rendered
    int32_t* flags;           // [I, N]; bits 0 to 2: channel not clamped at zero; bit 3: rendered
    // The tile lists, by gsplat.
    const int32_t* tile_offsets;  // [I, tile rows, tile columns]
    const int32_t* flatten_ids;   // [intersections], front to back within each tile; ids count over [I, N]
    int64_t intersections;
};

// The vectors of conjugate gradients: B systems of P unknowns.
struct Diff3rSystems {
    int64_t systems, unknowns;
};
}
