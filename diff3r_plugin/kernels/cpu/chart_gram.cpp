// The diagonal of Jᵀ W J in θ, straight from ten sums over pixels: no 13 x 13 blocks.
#include "chart_packs.h"
#include "math/gram_diagonal.h"
#include "parallel.h"
#include "splat_cotangent.h"

namespace diff3r {

// What the rasterizer needs to know of each splat: how it moves with its Gaussian's mean.
template <class T> void mean_moves(const Linearization<T>& lin, T* out, int threads) {
    using P = Pack<T>;
    const Scene<T>& scene = lin.scene;
    const int64_t tasks = pack_tasks<T>(scene.gaussians);
    parallel_for(scene.images() * tasks, lin.gaussian_threads(threads), [&](int64_t task, int) {
        const int64_t image = task / tasks, batch = image / scene.views;
        Camera<P> camera;
        load_camera(scene, image, camera);
        for_each_pack<T>(task % tasks, scene.gaussians, [&](int64_t first, int count) {
            PackMask<T> visible;
            if (!load_visible(lin.tile_counts.get() + image * scene.gaussians, first, count, visible)) return;
            const int64_t at = image * scene.gaussians + first;
            const GaussianPack<T> gaussians(scene, batch * scene.gaussians + first, count);
            const SeenPack<T> one(lin, gaussians, at, count, camera, visible);
            P move[padded<T>(MEAN_MOVE)];
            mean_move(one.seen(), camera, one.projection, move);
            stream_rows<MEAN_MOVE>(move, out + at * MEAN_MOVE, count);
        });
        finish_streaming();
    });
}

template void mean_moves(const Linearization<float>&, float*, int);
template void mean_moves(const Linearization<double>&, double*, int);

template <class T> void chart_gram_diagonal(const Linearization<T>& lin, const T* slots, const Chart<T>& chart, T* out, int threads) {
    using P = Pack<T>;
    const Scene<T>& scene = lin.scene;
    const int64_t tasks = pack_tasks<T>(scene.gaussians);
    const int rests = 3 * (scene.bases - 1);
    const ChartCotangent<T> store{chart, out, nullptr, nullptr, nullptr, nullptr};
    parallel_for(scene.batch * tasks, lin.gaussian_threads(threads), [&](int64_t task, int) {
        const int64_t batch = task / tasks;
        for_each_pack<T>(task % tasks, scene.gaussians, [&](int64_t first, int count) {
            const PackOfScene at{batch, first, count};
            const LocalPack<T> local(chart, scene, at);
            const GaussianPack<T> gaussians(scene, batch * scene.gaussians + first, count);
            P diagonal[CORE], rest[padded<T>(3 * MAX_BASES)];
            zero(diagonal, CORE);
            zero(rest, rests);
            for (int64_t view = 0; view < scene.views; ++view) {
                const int64_t image = batch * scene.views + view;
                PackMask<T> visible;
                if (!load_visible(lin.tile_counts.get() + image * scene.gaussians, first, count, visible)) continue;
                Camera<P> camera;
                load_camera(scene, image, camera);
                const int64_t seen_at = image * scene.gaussians + first;
                const SeenPack<T> one(lin, gaussians, seen_at, count, camera, visible);
                P sums[padded<T>(DIAGONAL_SUMS)];
                gather_slots<T, DIAGONAL_SUMS>(lin, slots, seen_at, count, sums);
                add_image(one.seen(), camera, one.projection, local.covariance, sums, diagonal, rest);
            }
            P group[padded<T>(6)];
            for (int j = 0; j < 3; ++j) group[j] = local.size() * local.size() * diagonal[j];
            store.store_group(chart.means, 3, scene, at, group);
            for (int j = 0; j < 6; ++j) group[j] = diagonal[3 + j];
            store.store_group(chart.covariance, 6, scene, at, group);
            group[0] = local.opacity_slope * local.opacity_slope * diagonal[9];
            store.store_group(chart.opacity, 1, scene, at, group);
            for (int c = 0; c < 3; ++c) group[c] = local.movable() * diagonal[10 + c];
            store.store_group(chart.sh_dc, 3, scene, at, group);
            for (int k = 0; k < rests; ++k) rest[k] = local.movable() * rest[k];
            store.store_group(chart.sh_rest, rests, scene, at, rest);
        });
    });
}

template void chart_gram_diagonal(const Linearization<float>&, const float*, const Chart<float>&, float*, int);
template void chart_gram_diagonal(const Linearization<double>&, const double*, const Chart<double>&, double*, int);

}  // namespace diff3r
