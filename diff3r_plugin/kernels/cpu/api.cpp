// The C interface: allocates what a call needs, calls the kernels, turns exceptions into statuses.
#include <memory>

#include "chart_packs.h"
#include "export.h"
#include "math/constants.h"
#include "math/gram_diagonal.h"
#include "state.h"

namespace diff3r {
namespace {

template <class T> int32_t linearize(const Diff3rScene* scene, int threads, T* rendered, Diff3rCounts* counts, void** handle) {
    auto lin = std::make_unique<Linearization<T>>(*scene);
    const Scene<T>& s = lin->scene;
    const int64_t pairs = s.images() * s.gaussians;
    SortInput<T> sort;
    sort.depths.allocate(pairs);
    sort.boxes.allocate(pairs);
    lin->splats.allocate(pairs);
    lin->tile_counts.allocate(pairs);
    lin->lit.allocate(pairs);
    if (handle) lin->tiled_image.allocate(s.images() * s.tiles() * 3 * TILE * TILE);
    project_splats(*lin, sort, threads);
    const bool fits = fill_tiles(*lin, sort, threads);
    if (fits) rasterize(*lin, rendered, threads);
    lin->counts.bytes = lin->bytes();
    lin->counts.registers = lin->alphas.registers();
    *counts = lin->counts;
    if (!fits) return DIFF3R_TOO_MANY_INTERSECTIONS;
    if (handle) *handle = lin.release();
    return DIFF3R_OK;
}

template <class T, class Tangent> int32_t jvp(const Linearization<T>& lin, int threads, const Tangent& tangent, T* out) {
    Buffer<SplatTangent<T>> tangents(lin.scene.images() * lin.scene.gaussians);
    splat_jvp(lin, tangent, tangents.get(), threads);
    rasterize_jvp(lin, tangents.get(), out, threads);
    return DIFF3R_OK;
}

template <class T, class Cotangent> int32_t vjp(const Linearization<T>& lin, int threads, const T* rendered, const Cotangent& cotangent) {
    Buffer<T> slots(lin.intersections * SPLAT_NUMBERS + SLOT_PADDING);
    rasterize_vjp(lin, rendered, slots.get(), threads);
    splat_vjp(lin, slots.get(), cotangent, threads);
    return DIFF3R_OK;
}

template <class T, class Tangent, class Cotangent>
int32_t gauss_newton(const Linearization<T>& lin, int threads, const Tangent& tangent, const T* weights, const Cotangent& cotangent) {
    Buffer<SplatTangent<T>> tangents(lin.scene.images() * lin.scene.gaussians);
    Buffer<T> slots(lin.intersections * SPLAT_NUMBERS + SLOT_PADDING);
    splat_jvp(lin, tangent, tangents.get(), threads);
    rasterize_product(lin, tangents.get(), weights, slots.get(), threads);
    splat_vjp(lin, slots.get(), cotangent, threads);
    return DIFF3R_OK;
}

template <class T> int32_t gram_diagonal(const Linearization<T>& lin, int threads, const Diff3rChart* chart, const T* weights, T* out) {
    Buffer<T> moves(lin.scene.images() * lin.scene.gaussians * MEAN_MOVE);
    Buffer<T> slots(lin.intersections * DIAGONAL_SUMS + SLOT_PADDING);
    mean_moves(lin, moves.get(), threads);
    rasterize_gram_diagonal(lin, weights, moves.get(), slots.get(), threads);
    chart_gram_diagonal(lin, slots.get(), Chart<T>(*chart), out, threads);
    return DIFF3R_OK;
}

template <class T> int32_t gram(const Linearization<T>& lin, int threads, const T* weights, T* core, T* rest) {
    Buffer<T> slots(lin.intersections * GRAM_NUMBERS + SLOT_PADDING);
    rasterize_gram(lin, weights, slots.get(), threads);
    splat_gram(lin, slots.get(), core, rest, threads);
    return DIFF3R_OK;
}

template <class T> Linearization<T>* lin(void* handle) { return static_cast<Linearization<T>*>(handle); }

}  // namespace
}  // namespace diff3r

using namespace diff3r;

DIFF3R_EXPORT(linearize, (const Diff3rScene* scene, int32_t threads, void* rendered, Diff3rCounts* counts, void** handle),
              return linearize<T>(scene, threads, out<T>(rendered), counts, handle);)

DIFF3R_EXPORT(jvp, (void* handle, int32_t threads, const Diff3rVector* tangent, void* image_tangent),
              return jvp(*lin<T>(handle), threads, GivenTangent<T>{VectorView<T>(*tangent)}, out<T>(image_tangent));)

DIFF3R_EXPORT(vjp, (void* handle, int32_t threads, const void* image_cotangent, const Diff3rVector* cotangent),
              return vjp(*lin<T>(handle), threads, in<T>(image_cotangent), GivenCotangent<T>{VectorView<T>(*cotangent)});)

DIFF3R_EXPORT(gauss_newton,
              (void* handle, int32_t threads, const Diff3rVector* tangent, const void* pixel_weights, const Diff3rVector* cotangent),
              const GivenTangent<T> given{VectorView<T>(*tangent)};
              const GivenCotangent<T> wanted{VectorView<T>(*cotangent)};
              return gauss_newton(*lin<T>(handle), threads, given, in<T>(pixel_weights), wanted);)

DIFF3R_EXPORT(gram, (void* handle, int32_t threads, const void* pixel_weights, void* core, void* rest),
              return gram(*lin<T>(handle), threads, in<T>(pixel_weights), out<T>(core), out<T>(rest));)

DIFF3R_EXPORT(chart_jvp,
              (void* handle, int32_t threads, const Diff3rChart* chart, const void* tangent, const void* world_to_camera, void* image_tangent),
              const ChartTangent<T> given{Chart<T>(*chart), in<T>(tangent), in<T>(world_to_camera)};
              return jvp(*lin<T>(handle), threads, given, out<T>(image_tangent));)

DIFF3R_EXPORT(chart_vjp,
              (void* handle, int32_t threads, const Diff3rChart* chart, const void* image_cotangent, const void* diagonal,
               const void* center, void* gradient, void* world_to_camera),
              const ChartCotangent<T> wanted{Chart<T>(*chart), out<T>(gradient), out<T>(world_to_camera), in<T>(diagonal), in<T>(chart->theta),
                                             in<T>(center)};
              return vjp(*lin<T>(handle), threads, in<T>(image_cotangent), wanted);)

DIFF3R_EXPORT(chart_gauss_newton,
              (void* handle, int32_t threads, const Diff3rChart* chart, const void* tangent, const void* pixel_weights, const void* diagonal,
               void* product, const void* world_to_camera, void* world_to_camera_out),
              const ChartTangent<T> given{Chart<T>(*chart), in<T>(tangent), in<T>(world_to_camera)};
              const ChartCotangent<T> wanted{Chart<T>(*chart), out<T>(product), out<T>(world_to_camera_out), in<T>(diagonal), in<T>(tangent),
                                             nullptr};
              return gauss_newton(*lin<T>(handle), threads, given, in<T>(pixel_weights), wanted);)

DIFF3R_EXPORT(chart_gram_diagonal, (void* handle, int32_t threads, const Diff3rChart* chart, const void* pixel_weights, void* diagonal),
              return gram_diagonal(*lin<T>(handle), threads, chart, in<T>(pixel_weights), out<T>(diagonal));)

DIFF3R_EXPORT(chart_decode, (const Diff3rInputs* reference, int32_t threads, const Diff3rChart* chart, const Diff3rVector* scene),
              const Diff3rScene all{*reference, 0};
              chart_decode(Scene<T>(all), Chart<T>(*chart), VectorView<T>(*scene), threads);
              return DIFF3R_OK;)

DIFF3R_EXPORT(free, (void* handle), delete lin<T>(handle); return DIFF3R_OK;)

extern "C" {

int32_t diff3r_constants(double* out, int32_t capacity) {
    const double values[] = {ALPHA_CAP, ALPHA_SKIP, TRANSMITTANCE_STOP, FRUSTUM_MARGIN, COLOR_OFFSET};
    const int32_t count = int32_t(sizeof(values) / sizeof(values[0]));
    for (int32_t i = 0; i < count && i < capacity; ++i) out[i] = values[i];
    return count;
}

void* diff3r_acquire(int64_t bytes) {
    try {
        return acquire(size_t(bytes));
    } catch (...) {
        return nullptr;
    }
}

void diff3r_keep_at_most(int64_t bytes) { keep_at_most(size_t(bytes)); }
int64_t diff3r_free_waiting() { return int64_t(free_waiting()); }
const char* diff3r_failure() { return failure; }

void diff3r_release(void* block, int64_t bytes) { release(block, size_t(bytes)); }

int32_t diff3r_float_lanes() { return Pack<float>::lanes; }
}
