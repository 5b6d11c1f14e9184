// Cotangents of splats back to Gaussians and cameras.
#include "chart_packs.h"
#include "parallel.h"
#include "splat_cotangent.h"

namespace diff3r {
namespace {

// Adds the share of one image to `sums`, and to `camera_sums` (where not null) what [R|t] gets.
template <class T>
void add_image(const Linearization<T>& lin, const T* slots, const GaussianPack<T>& gaussians, int64_t at, int count,
               const Camera<Pack<T>>& camera, const PackMask<T>& visible, GaussianNumbers<T>& sums, Pack<T>* camera_sums) {
    using P = Pack<T>;
    P slot[padded<T>(SPLAT_NUMBERS)], splat[SPLAT_NUMBERS];
    const SeenPack<T> one(lin, gaussians, at, count, camera, visible);
    const Projection<P>& p = one.projection;
    gather_slots<T, SPLAT_NUMBERS>(lin, slots, at, count, slot);
    footprint_cotangent(p.a, p.b, p.c, slot, splat);
    for (int c = 0; c < 3; ++c) splat[6 + c] = slot[6 + c];
    gaussian_vjp(one.seen(), camera, p, splat, GaussianSums<P>{sums.mean, sums.covariance, &sums.opacity, sums.harmonics}, camera_sums);
}

}  // namespace

template <class T, class Cotangent> void splat_vjp(const Linearization<T>& lin, const T* slots, const Cotangent& out, int threads) {
    const Scene<T>& scene = lin.scene;
    const int64_t tasks = pack_tasks<T>(scene.gaussians), views = scene.views;
    const bool with_camera = out.cameras() != nullptr;
    // Cameras are shared by all Gaussians: one partial sum per task and view, added up in order at the end.
    Buffer<double> partial(with_camera ? scene.images() * tasks * CAMERA_NUMBERS : 0);
    parallel_for(scene.batch * tasks, lin.gaussian_threads(threads), [&](int64_t task, int) {
        const int64_t batch = task / tasks;
        double* camera_totals = with_camera ? partial.get() + task * views * CAMERA_NUMBERS : nullptr;
        if (with_camera) std::memset(camera_totals, 0, size_t(views) * CAMERA_NUMBERS * sizeof(double));
        for_each_pack<T>(task % tasks, scene.gaussians, [&](int64_t first, int count) {
            GaussianNumbers<T> sums;
            zero(sums.mean, 3);
            zero(sums.covariance, 6);
            sums.opacity = Pack<T>(T(0));
            zero(sums.harmonics, int(3 * scene.bases));
            const GaussianPack<T> gaussians(scene, batch * scene.gaussians + first, count);
            for (int64_t view = 0; view < views; ++view) {
                const int64_t image = batch * views + view;
                PackMask<T> visible;
                if (!load_visible(lin.tile_counts.get() + image * scene.gaussians, first, count, visible)) continue;
                Camera<Pack<T>> camera;
                load_camera(scene, image, camera);
                Pack<T> camera_sums[CAMERA_NUMBERS];
                zero(camera_sums, CAMERA_NUMBERS);
                add_image(lin, slots, gaussians, image * scene.gaussians + first, count, camera, visible, sums,
                          with_camera ? camera_sums : nullptr);
                for (int j = 0; j < CAMERA_NUMBERS && with_camera; ++j)
                    camera_totals[view * CAMERA_NUMBERS + j] += double(sum(camera_sums[j]));
            }
            out.store(scene, PackOfScene{batch, first, count}, sums);
        });
    });
    if (!with_camera) return;
    for (int64_t image = 0; image < scene.images(); ++image) {
        const int64_t batch = image / views, view = image % views;
        for (int j = 0; j < 16; ++j) {
            double total = 0;
            for (int64_t task = batch * tasks; task < (batch + 1) * tasks && j < CAMERA_NUMBERS; ++task)
                total += partial[(task * views + view) * CAMERA_NUMBERS + j];
            out.cameras()[16 * image + j] = T(total);
        }
    }
}

template void splat_vjp(const Linearization<float>&, const float*, const GivenCotangent<float>&, int);
template void splat_vjp(const Linearization<double>&, const double*, const GivenCotangent<double>&, int);
template void splat_vjp(const Linearization<float>&, const float*, const ChartCotangent<float>&, int);
template void splat_vjp(const Linearization<double>&, const double*, const ChartCotangent<double>&, int);

}  // namespace diff3r
