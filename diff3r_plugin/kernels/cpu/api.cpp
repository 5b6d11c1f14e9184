// The C interface: allocates what a call needs, calls the kernels, turns exceptions into statuses.
#include "api.h"

#include <memory>

#include "math/constants.h"
#include "state.h"

namespace diff3r {
namespace {

template <class Work> int32_t guarded(const Work& work) {
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return DIFF3R_OUT_OF_MEMORY;
    }
}

template <class T> int32_t linearize(const Diff3rScene* scene, int threads, T* picture, Diff3rCounts* counts, void** handle) {
    auto lin = std::make_unique<Linearization<T>>(*scene);
    const Scene<T>& s = lin->scene;
    const int64_t pairs = s.images() * s.gaussians;
    SortInput<T> sort;
    sort.depths.allocate(pairs);
    sort.boxes.allocate(pairs);
    lin->splats.allocate(pairs);
    lin->tile_counts.allocate(pairs);
    if (handle) lin->tiled_picture.allocate(s.images() * s.tiles() * 3 * TILE * TILE);
    project_splats(*lin, sort, threads);
    const bool fits = fill_tiles(*lin, sort, threads);
    lin->counts.bytes = lin->bytes();
    *counts = lin->counts;
    if (!fits) return DIFF3R_TOO_MANY_INTERSECTIONS;
    rasterize(*lin, picture, threads);
    if (handle) *handle = lin.release();
    return DIFF3R_OK;
}

template <class T> int32_t jvp(const Linearization<T>& lin, int threads, const Diff3rVector* tangent, T* out) {
    Buffer<SplatTangent<T>> tangents(lin.scene.images() * lin.scene.gaussians);
    splat_jvp(lin, VectorView<T>(*tangent), tangents.get(), threads);
    rasterize_jvp(lin, tangents.get(), out, threads);
    return DIFF3R_OK;
}

template <class T> int32_t vjp(const Linearization<T>& lin, int threads, const T* picture, const Diff3rVector* cotangent) {
    Buffer<T> slots(lin.intersections * SPLAT_NUMBERS + SLOT_PADDING);
    rasterize_vjp(lin, picture, slots.get(), threads);
    splat_vjp(lin, slots.get(), VectorView<T>(*cotangent), threads);
    return DIFF3R_OK;
}

template <class T>
int32_t gauss_newton(const Linearization<T>& lin, int threads, const Diff3rVector* tangent, const T* weights, const Diff3rVector* cotangent) {
    Buffer<SplatTangent<T>> tangents(lin.scene.images() * lin.scene.gaussians);
    Buffer<T> slots(lin.intersections * SPLAT_NUMBERS + SLOT_PADDING);
    splat_jvp(lin, VectorView<T>(*tangent), tangents.get(), threads);
    rasterize_product(lin, tangents.get(), weights, slots.get(), threads);
    splat_vjp(lin, slots.get(), VectorView<T>(*cotangent), threads);
    return DIFF3R_OK;
}

template <class T> int32_t gram(const Linearization<T>& lin, int threads, const T* weights, T* core, T* rest) {
    Buffer<T> slots(lin.intersections * GRAM_NUMBERS + SLOT_PADDING);
    rasterize_gram(lin, weights, slots.get(), threads);
    splat_gram(lin, slots.get(), core, rest, threads);
    return DIFF3R_OK;
}

}  // namespace
}  // namespace diff3r

using namespace diff3r;

extern "C" {

#define DIFF3R_DEFINE(SUFFIX, T)                                                                                                       \
    int32_t diff3r_linearize_##SUFFIX(const Diff3rScene* scene, int32_t threads, void* picture, Diff3rCounts* counts, void** handle) { \
        return guarded([&] { return linearize<T>(scene, threads, static_cast<T*>(picture), counts, handle); });                        \
    }                                                                                                                                  \
    int32_t diff3r_jvp_##SUFFIX(void* handle, int32_t threads, const Diff3rVector* tangent, void* picture_tangent) {                   \
        const auto& lin = *static_cast<Linearization<T>*>(handle);                                                                     \
        return guarded([&] { return jvp<T>(lin, threads, tangent, static_cast<T*>(picture_tangent)); });                               \
    }                                                                                                                                  \
    int32_t diff3r_vjp_##SUFFIX(void* handle, int32_t threads, const void* picture_cotangent, const Diff3rVector* cotangent) {         \
        const auto& lin = *static_cast<Linearization<T>*>(handle);                                                                     \
        return guarded([&] { return vjp<T>(lin, threads, static_cast<const T*>(picture_cotangent), cotangent); });                     \
    }                                                                                                                                  \
    int32_t diff3r_gauss_newton_##SUFFIX(void* handle, int32_t threads, const Diff3rVector* tangent, const void* pixel_weights,        \
                                         const Diff3rVector* cotangent) {                                                              \
        const auto& lin = *static_cast<Linearization<T>*>(handle);                                                                     \
        return guarded([&] { return gauss_newton<T>(lin, threads, tangent, static_cast<const T*>(pixel_weights), cotangent); });       \
    }                                                                                                                                  \
    int32_t diff3r_gram_##SUFFIX(void* handle, int32_t threads, const void* pixel_weights, void* core, void* rest) {                   \
        const auto& lin = *static_cast<Linearization<T>*>(handle);                                                                     \
        const T* weights = static_cast<const T*>(pixel_weights);                                                                       \
        return guarded([&] { return gram<T>(lin, threads, weights, static_cast<T*>(core), static_cast<T*>(rest)); });                  \
    }                                                                                                                                  \
    void diff3r_free_##SUFFIX(void* handle) { delete static_cast<Linearization<T>*>(handle); }

DIFF3R_DEFINE(f32, float)
DIFF3R_DEFINE(f64, double)

int32_t diff3r_constants(double* out, int32_t capacity) {
    const double values[] = {DILATION, ALPHA_CAP, ALPHA_SKIP, TRANSMITTANCE_STOP, FRUSTUM_MARGIN, COLOR_OFFSET};
    const int32_t count = int32_t(sizeof(values) / sizeof(values[0]));
    for (int32_t i = 0; i < count && i < capacity; ++i) out[i] = values[i];
    return count;
}

void* diff3r_acquire(int64_t bytes) {
    try {
        return acquire(size_t(bytes));
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void diff3r_release(void* block, int64_t bytes) { release(block, size_t(bytes)); }

int32_t diff3r_float_lanes() { return Pack<float>::lanes; }
}
