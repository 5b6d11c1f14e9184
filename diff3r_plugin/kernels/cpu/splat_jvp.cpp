// Tangents of Gaussians (and cameras) to tangents of splats: the projection on dual numbers.
#include "chart_packs.h"
#include "math/splat_chain.h"
#include "parallel.h"

namespace diff3r {
namespace {

template <class T> Camera<Dual<Pack<T>>> camera_of(const Scene<T>& scene, const T* tangents, int64_t image) {
    Camera<Pack<T>> still;
    load_camera(scene, image, still);
    const T* matrix = tangents ? tangents + 16 * image : nullptr;
    return moving_camera(still, [&](int i, int j) { return Pack<T>(matrix ? matrix[4 * i + j] : T(0)); });
}

}  // namespace

template <class T, class Tangent> void splat_jvp(const Linearization<T>& lin, const Tangent& tangent, SplatTangent<T>* out, int threads) {
    using P = Pack<T>;
    using D = Dual<P>;
    constexpr int ROW = sizeof(SplatTangent<T>) / sizeof(T);  // numbers from one splat's to the next one's
    const Scene<T>& scene = lin.scene;
    const int64_t tasks = pack_tasks<T>(scene.gaussians);
    parallel_for(scene.batch * tasks, lin.gaussian_threads(threads), [&](int64_t task, int) {
        const int64_t batch = task / tasks;
        for_each_pack<T>(task % tasks, scene.gaussians, [&](int64_t first, int count) {
            const int64_t n = batch * scene.gaussians + first;
            D mean[3], covariance[6];
            GaussianNumbers<T> moved;
            P still[padded<T>(3 * MAX_BASES)], opacity;
            bool loaded = false;
            for (int64_t view = 0; view < scene.views; ++view) {
                const int64_t image = batch * scene.views + view, at = image * scene.gaussians + first;
                PackMask<T> visible;
                if (!load_visible(lin.tile_counts.get() + image * scene.gaussians, first, count, visible)) continue;
                if (!loaded) {
                    P value[6];
                    tangent.load(scene, PackOfScene{batch, first, count}, moved);
                    load_vector3(scene.means, n, count, value);
                    for (int j = 0; j < 3; ++j) mean[j] = D::with_tangent(value[j], moved.mean[j]);
                    load_symmetric(scene, scene.covariances, n, count, value);
                    for (int j = 0; j < 6; ++j) covariance[j] = D::with_tangent(value[j], moved.covariance[j]);
                    opacity = load_strided(scene.opacities + n, 1, count);
                    if (scene.bases > 1) load_coefficients(scene, scene.harmonics, n, count, still);
                    loaded = true;
                }
                const Camera<D> camera = camera_of<T>(scene, tangent.cameras(), image);
                D offset[3], direction[3];
                Projection<D> p;
                project(mean, covariance, camera, p);
                offset_from_camera(mean, camera, offset);
                normalize(offset, direction);
                P number[padded<T>(ROW)];
                const P footprint[] = {p.x.d[0], p.y.d[0], p.a.d[0], p.b.d[0], p.c.d[0], moved.opacity};
                footprint_tangent(p.a.v, p.b.v, p.c.v, opacity, footprint, number);
                if (p.antialiased) number[0] = number[0] + log_dimming_tangent(p);
                color_jvp(scene.bases, direction, moved.harmonics, still, number + 6);
                P lit[3];
                load_lit(lin, at, count, lit);
                for (int c = 0; c < 3; ++c) number[6 + c] = number[6 + c] * lit[c];
                for (int j = SPLAT_NUMBERS; j < ROW; ++j) number[j] = P(T(0));
                store_rows(number, ROW, out[at].log_alpha, ROW, count);
            }
        });
    });
}

template void splat_jvp(const Linearization<float>&, const GivenTangent<float>&, SplatTangent<float>*, int);
template void splat_jvp(const Linearization<double>&, const GivenTangent<double>&, SplatTangent<double>*, int);
template void splat_jvp(const Linearization<float>&, const ChartTangent<float>&, SplatTangent<float>*, int);
template void splat_jvp(const Linearization<double>&, const ChartTangent<double>&, SplatTangent<double>*, int);

}  // namespace diff3r
