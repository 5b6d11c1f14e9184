// The C interface of the GPU kernels: raw device pointers to contiguous row-major arrays, sizes, a device and a stream.
// Every function queues its work on the stream and returns at once, with 0 or a CUDA error code (diff3r_cuda_error).
#pragma once

#include <cstdint>

#include "math/charts.h"
#include "math/inputs.h"

extern "C" {

// Where work is queued.
struct Diff3rQueue {
    void* stream;
    int64_t device;
};

// What a function does not name may be null.
struct Diff3rDeviceScene {
    Diff3rInputs inputs;
    double alpha_cap;  // largest alpha of one splat at one pixel: that of the rasterizer that rendered the image
    Diff3rQueue queue;
    // The splats, in the layout of gsplat; written by diff3r_cuda_project.
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
    Diff3rQueue queue;
};

#define DIFF3R_DECLARE(SUFFIX)                                                                                                       \
    /* Gaussians to splats. */                                                                                                       \
    int32_t diff3r_cuda_project_##SUFFIX(const Diff3rDeviceScene*);                                                                  \
    /* The Gaussians at chart->theta, from those of `reference`; covariances and harmonics may be null. */                           \
    int32_t diff3r_cuda_chart_decode_##SUFFIX(const Diff3rInputs* reference, const Diff3rQueue*, const Diff3rChart*,                 \
                                              const Diff3rVector* scene);                                                            \
    /* Tangents of Gaussians (and cameras) to those of splats: six coefficients of the tangent of ln(alpha) and three                \
       colors, [I, N, 9]. */                                                                                                         \
    int32_t diff3r_cuda_splat_jvp_##SUFFIX(const Diff3rDeviceScene*, const Diff3rVector* tangent, void* splats);                     \
    /* The same for a tangent of θ, [B, P]; world_to_camera may be null. */                                                          \
    int32_t diff3r_cuda_chart_splat_jvp_##SUFFIX(const Diff3rDeviceScene*, const Diff3rChart*, const void* tangent,                  \
                                                 const void* world_to_camera, void* splats);                                         \
    /* The image [I, H, W, 3]; and moments [I, N, 9], added to, for a cotangent of it. (Else gsplat does both.) */                   \
    int32_t diff3r_cuda_rasterize_##SUFFIX(const Diff3rDeviceScene*, void* rendered);                                                \
    int32_t diff3r_cuda_rasterize_vjp_##SUFFIX(const Diff3rDeviceScene*, const void* image_cotangent, void* splat_moments);          \
    /* J v on splats: the tangent of the image, [I, H, W, 3]. */                                                                     \
    int32_t diff3r_cuda_rasterize_jvp_##SUFFIX(const Diff3rDeviceScene*, const void* splat_tangents, void* image_tangent);           \
    /* Jt W J v on splats with pixel_weights [I, H, W]: adds to moments [I, N, 9]. */                                                \
    int32_t diff3r_cuda_rasterize_product_##SUFFIX(const Diff3rDeviceScene*, const void* splat_tangents, const void* pixel_weights,  \
                                                   void* splat_moments);                                                             \
    /* Cotangents of splats (arriving 0: of x, y, a, b, c, opacity, red, green, blue; 1: moments of a product), [I, N, 9],           \
       to those of Gaussians; camera_sums [I, 12] (double, zeroed by the caller) may be null. */                                     \
    int32_t diff3r_cuda_splat_vjp_##SUFFIX(const Diff3rDeviceScene*, const void* splats, int32_t arriving, const Diff3rVector*,      \
                                           void* camera_sums);                                                                       \
    /* The same as gradients by θ, [B, P], plus diagonal (vector - center); center, or all three, may be null. */                    \
    int32_t diff3r_cuda_chart_splat_vjp_##SUFFIX(const Diff3rDeviceScene*, const void* splats, int32_t arriving, const Diff3rChart*, \
                                                 const void* diagonal, const void* vector, const void* center, void* out,            \
                                                 void* camera_sums);                                                                 \
    /* Adds the sums that Gram matrices are made of to [I, N, 34]. */                                                                \
    int32_t diff3r_cuda_rasterize_gram_##SUFFIX(const Diff3rDeviceScene*, const void* pixel_weights, void* splat_sums);              \
    /* Those sums to core [B, N, 13, 13] and rest [B, N, 3, bases - 1]. */                                                           \
    int32_t diff3r_cuda_splat_gram_##SUFFIX(const Diff3rDeviceScene*, const void* splat_sums, void* core, void* rest);               \
    /* How splats move with their Gaussians' means, [I, N, 24]; with these, adds ten sums to [I, N, 10]; and with those              \
       the diagonal of Jt W J by θ, [B, P]. */                                                                                       \
    int32_t diff3r_cuda_mean_moves_##SUFFIX(const Diff3rDeviceScene*, void* moves);                                                  \
    int32_t diff3r_cuda_rasterize_gram_diagonal_##SUFFIX(const Diff3rDeviceScene*, const void* pixel_weights, const void* moves,     \
                                                         void* splat_sums);                                                          \
    int32_t diff3r_cuda_chart_gram_diagonal_##SUFFIX(const Diff3rDeviceScene*, const Diff3rChart*, const void* splat_sums,           \
                                                     void* diagonal);                                                                \
    /* r_new = r - alpha Ap with alpha [B]; then as measure. All vectors [B, P]. */                                                  \
    int32_t diff3r_cuda_advance_##SUFFIX(const Diff3rSystems*, const void* alpha, const void* inverse_diagonal,                      \
                                      const void* Ap, const void* r, void* r_new, double* sums);                                     \
    /* Adds z·r and r·r to sums [B, 2], with z = r times inverse_diagonal (null: one). */                                            \
    int32_t diff3r_cuda_measure_##SUFFIX(const Diff3rSystems*, const void* inverse_diagonal, const void* r,                          \
                                      double* sums);                                                                                 \
    /* x = x + alpha p, in place. */                                                                                                 \
    int32_t diff3r_cuda_step_##SUFFIX(const Diff3rSystems*, const void* alpha, const void* p, void* x);                              \
    /* The same, then p = z + beta p with beta [B], both in place. */                                                                \
    int32_t diff3r_cuda_follow_##SUFFIX(const Diff3rSystems*, const void* alpha, const void* beta,                                   \
                                     const void* inverse_diagonal, const void* r, void* x, void* p);                                 \
    /* r_new = r for the systems whose byte of good [B] is zero. */                                                                  \
    int32_t diff3r_cuda_restore_##SUFFIX(const Diff3rSystems*, const uint8_t* good, const void* r, void* r_new);                     \
    /* Adds a·b (weights null) or the weighted squares of a - b to the first or second of sums [B, 2]. */                            \
    int32_t diff3r_cuda_products_##SUFFIX(const Diff3rSystems*, const void* a, const void* b, const void* weights,                   \
                                          double* sums);
DIFF3R_DECLARE(f32)
#ifdef DIFF3R_CUDA_ON_HOST
DIFF3R_DECLARE(f64)
#endif
#undef DIFF3R_DECLARE

// What an error code means.
const char* diff3r_cuda_error(int32_t code);
}
