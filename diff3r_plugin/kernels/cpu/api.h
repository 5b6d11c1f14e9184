// The C interface of the CPU kernels: raw pointers to contiguous row-major arrays, sizes, and an opaque linearization.
// Every function exists for float (suffix _f32) and double (_f64) and returns a Status. Nothing throws.
#pragma once

#include <cstdint>

#include "math/charts.h"
#include "math/inputs.h"

extern "C" {

enum Diff3rStatus : int32_t {
    DIFF3R_OK = 0,
    DIFF3R_OUT_OF_MEMORY = 1,
    DIFF3R_TOO_MANY_INTERSECTIONS = 2,  // (splat, tile) pairs exceed what `max_intersections` allows
    DIFF3R_FAILED = 3,                  // anything else; diff3r_failure says what
};

// Pointers are read by every later call, so they must stay valid.
struct Diff3rScene {
    Diff3rInputs inputs;
    int64_t max_intersections;
};

struct Diff3rCounts {
    int64_t visible;        // (Gaussian, view) pairs that touch the image
    int64_t degenerate;     // pairs left out for a non-finite or degenerate projection, depth in range
    int64_t intersections;  // (splat, tile) pairs
    int64_t bytes;          // held by the linearization
    int64_t registers;      // (splat, block of pixels) pairs in which a pixel takes the splat; 0 if nothing is kept
};

// The vectors of conjugate gradients: B systems of P unknowns.
struct Diff3rSystems {
    int64_t systems, unknowns;
};

// Declares a function of a status for both types; `export.h` defines it. `kernels/loading/c_header.py` reads these lines, so
// that no other place says what a function takes.
#define DIFF3R_FUNCTION(NAME, PARAMETERS)   \
    int32_t diff3r_##NAME##_f32 PARAMETERS; \
    int32_t diff3r_##NAME##_f64 PARAMETERS;

// Projects, sorts and renders the image [B, V, 3, H, W]; handle may be null when nothing is to be kept.
DIFF3R_FUNCTION(linearize, (const Diff3rScene*, int32_t threads, void* rendered, Diff3rCounts* counts, void** handle))
DIFF3R_FUNCTION(jvp, (void* handle, int32_t threads, const Diff3rVector* tangent, void* image_tangent))
DIFF3R_FUNCTION(vjp, (void* handle, int32_t threads, const void* image_cotangent, const Diff3rVector* cotangent))
// Jt W J v with pixel_weights [B, V, H, W].
DIFF3R_FUNCTION(gauss_newton, (void* handle, int32_t threads, const Diff3rVector* tangent, const void* pixel_weights, const Diff3rVector* cotangent))
// core [B, N, 13, 13], rest [B, N, 3, bases - 1].
DIFF3R_FUNCTION(gram, (void* handle, int32_t threads, const void* pixel_weights, void* core, void* rest))
// The same in terms of θ, for a linearization at chart->theta; world_to_camera may be null.
DIFF3R_FUNCTION(chart_jvp, (void* handle, int32_t threads, const Diff3rChart*, const void* tangent, const void* world_to_camera, void* image_tangent))
// Jt u + diagonal (θ - center); diagonal and center may be null together.
DIFF3R_FUNCTION(chart_vjp, (void* handle, int32_t threads, const Diff3rChart*, const void* image_cotangent, const void* diagonal,
                            const void* center, void* gradient, void* world_to_camera))
// Jt W J v + diagonal v. The second world_to_camera is the cotangent's.
DIFF3R_FUNCTION(chart_gauss_newton, (void* handle, int32_t threads, const Diff3rChart*, const void* tangent, const void* pixel_weights,
                                     const void* diagonal, void* product, const void* world_to_camera, void* world_to_camera_out))
// The diagonal of Jt W J by θ.
DIFF3R_FUNCTION(chart_gram_diagonal, (void* handle, int32_t threads, const Diff3rChart*, const void* pixel_weights, void* diagonal))
// The Gaussians at chart->theta, from those of `reference`.
DIFF3R_FUNCTION(chart_decode, (const Diff3rInputs* reference, int32_t threads, const Diff3rChart*, const Diff3rVector*))
DIFF3R_FUNCTION(free, (void* handle))
// r_new = r - alpha Ap with alpha [B]; then as measure. All vectors [B, P].
DIFF3R_FUNCTION(advance, (const Diff3rSystems*, int32_t threads, const void* alpha, const void* inverse_diagonal, const void* Ap, const void* r,
                          void* r_new, double* sums))
// Adds z·r and r·r to sums [B, 2], with z = r times inverse_diagonal (null: one).
DIFF3R_FUNCTION(measure, (const Diff3rSystems*, int32_t threads, const void* inverse_diagonal, const void* r, double* sums))
// x = x + alpha p, in place.
DIFF3R_FUNCTION(step, (const Diff3rSystems*, int32_t threads, const void* alpha, const void* p, void* x))
// The same, then p = z + beta p with beta [B], both in place.
DIFF3R_FUNCTION(follow, (const Diff3rSystems*, int32_t threads, const void* alpha, const void* beta, const void* inverse_diagonal, const void* r,
                         void* x, void* p))
// r_new = r for the systems whose byte of good [B] is zero.
DIFF3R_FUNCTION(restore, (const Diff3rSystems*, int32_t threads, const uint8_t* good, const void* r, void* r_new))
// inverse = 1 / (a + b), and 1 where a + b is not positive.
DIFF3R_FUNCTION(inverse_sum, (const Diff3rSystems*, int32_t threads, const void* a, const void* b, void* inverse))
// Adds a·b (weights null) or the weighted squares of a - b to the first or second of sums [B, 2].
DIFF3R_FUNCTION(products, (const Diff3rSystems*, int32_t threads, const void* a, const void* b, const void* weights, double* sums))

// The constants of constants.h, in the order they stand there, and the number of float lanes.
int32_t diff3r_constants(double* out, int32_t capacity);
int32_t diff3r_float_lanes();

// Memory for large results, recycled like that of the kernels; null if there is none.
void* diff3r_acquire(int64_t bytes);
void diff3r_release(void* block, int64_t bytes);
// How many bytes of released memory may wait to be used again (nothing before the first call), and freeing what waits.
void diff3r_keep_at_most(int64_t bytes);
int64_t diff3r_free_waiting();

// What the last call of this thread that returned DIFF3R_FAILED met.
const char* diff3r_failure();
}
