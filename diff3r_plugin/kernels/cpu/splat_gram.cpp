// Per-splat Gram matrices chained to the Gaussians' own parameters: Pᵀ G P with P the derivative of a splat's nine
// numbers with respect to mean, covariance, opacity and the constant color coefficients.
#include "parallel.h"
#include "splat_cotangent.h"

namespace diff3r {
namespace {

// The block of each Gaussian of a pack; the lower triangle until it is mirrored.
template <class T> struct Core {
    Pack<T> entry[padded<T>(CORE * CORE)];
    DIFF3R_INLINE Pack<T>* operator[](int row) { return entry + row * CORE; }
    DIFF3R_INLINE void clear() {
        for (int i = 0; i < CORE; ++i)
            for (int j = 0; j <= i; ++j) (*this)[i][j] = Pack<T>(T(0));
    }
    DIFF3R_INLINE void mirror() {
        for (int i = 0; i < CORE; ++i)
            for (int j = 0; j < i; ++j) (*this)[j][i] = (*this)[i][j];
    }
};

}  // namespace

template <class T> void splat_gram(const Linearization<T>& lin, const T* slots, T* core_out, T* rest_out, int threads) {
    using P = Pack<T>;
    const Scene<T>& scene = lin.scene;
    const int64_t tasks = pack_tasks<T>(scene.gaussians), rests = 3 * (scene.bases - 1);
    parallel_for(scene.batch * tasks, lin.gaussian_threads(threads), [&](int64_t task, int) {
        const int64_t batch = task / tasks;
        for_each_pack<T>(task % tasks, scene.gaussians, [&](int64_t first, int count) {
            Core<T> core;
            P rest[padded<T>(3 * MAX_BASES)];
            core.clear();
            for (int64_t k = 0; k < rests; ++k) rest[k] = P(T(0));
            const int64_t n = batch * scene.gaussians + first;
            const GaussianPack<T> gaussians(scene, n, count);
            for (int64_t view = 0; view < scene.views; ++view) {
                const int64_t image = batch * scene.views + view;
                PackMask<T> visible;
                if (!load_visible(lin.tile_counts.get() + image * scene.gaussians, first, count, visible)) continue;
                Camera<P> camera;
                load_camera(scene, image, camera);
                const int64_t at = image * scene.gaussians + first;
                const SeenPack<T> one(lin, gaussians, at, count, camera, visible);
                P sums[padded<T>(GRAM_NUMBERS)];
                gather_slots<T, GRAM_NUMBERS>(lin, slots, at, count, sums);
                gaussian_gram(one.seen(), camera, one.projection, sums, core.entry, rest);
            }
            core.mirror();
            stream_rows<CORE * CORE>(core.entry, core_out + n * CORE * CORE, count);
            store_rows(rest, int(rests), rest_out + n * rests, rests, count);
        });
        finish_streaming();
    });
}

template void splat_gram(const Linearization<float>&, const float*, float*, float*, int);
template void splat_gram(const Linearization<double>&, const double*, double*, double*, int);

}  // namespace diff3r
