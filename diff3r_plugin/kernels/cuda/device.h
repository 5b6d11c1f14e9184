// What every GPU kernel starts from: typed views of the arguments, the launch, and the functions to export.
#pragma once

#ifdef DIFF3R_CUDA_ON_HOST
#include "cuda_on_host.h"
#else
#include <cuda_runtime.h>
#endif

#include "math/splat_chain.h"
#include "api.h"

namespace diff3r {

constexpr int BLOCK = TILE * TILE;  // threads: one per pixel of a tile
constexpr int WARP = 32;
constexpr unsigned EVERY_LANE = 0xffffffffu;
constexpr int VISIBLE = 8;            // bit of `flags`

// Products must be those of gsplat's rendering. gsplat renders in float32, where a ray goes on above 1e-4f, that is from the
// next number on; in float64, in which only tests run, the rule is that of the other backends.
template <class T> struct RayStop { static constexpr T value = T(TRANSMITTANCE_STOP); };
template <> struct RayStop<float> { static constexpr float value = 1e-4f + 0x1p-37f; };

template <class T> struct DeviceScene : Inputs<T> {
    int64_t intersections;
    T alpha_cap;
    T *means2d, *conics, *colors, *splat_opacities, *depths, *reaches;
    int32_t *radii, *flags;
    const int32_t *tile_offsets, *flatten_ids;

    explicit DeviceScene(const Diff3rDeviceScene& s)
        : Inputs<T>(s.inputs), intersections(s.intersections), alpha_cap(T(s.alpha_cap)), means2d(static_cast<T*>(s.means2d)),
          conics(static_cast<T*>(s.conics)), colors(static_cast<T*>(s.colors)), splat_opacities(static_cast<T*>(s.splat_opacities)),
          depths(static_cast<T*>(s.depths)), reaches(static_cast<T*>(s.reaches)), radii(s.radii), flags(s.flags), tile_offsets(s.tile_offsets), flatten_ids(s.flatten_ids) {}
};

template <class T> struct Exactly { using type = T; };

// Queues kernel(arguments...) on a stream. The runtime in this library may have another idea of the current device than
// the caller's, so the queue's is set for the launch and the old one afterwards.
template <class... A>
int32_t launch(const Diff3rQueue& queue, int64_t blocks, int threads, void (*kernel)(A...), typename Exactly<A>::type... arguments) {
    if (blocks == 0) return 0;
#ifdef DIFF3R_CUDA_ON_HOST
    cuda_on_host::run(int(blocks), threads, [=] { kernel(arguments...); });
    return 0;
#else
    int before = 0;
    cudaError_t error = cudaGetDevice(&before);
    if (error == cudaSuccess && before != int(queue.device)) error = cudaSetDevice(int(queue.device));
    if (error != cudaSuccess) return int32_t(error);
    kernel<<<unsigned(blocks), unsigned(threads), 0, static_cast<cudaStream_t>(queue.stream)>>>(arguments...);
    error = cudaGetLastError();
    if (before != int(queue.device)) cudaSetDevice(before);
    return int32_t(error);
#endif
}

inline int64_t blocks_for(int64_t items, int threads) { return (items + threads - 1) / threads; }

// Calls use(k) with a constant for the number of basis functions: only so do they stay in registers.
template <int N> struct Bases { static constexpr int count = N; };
template <class Use> int32_t with_bases(int bases, const Use& use) {
    switch (bases) {
        case 1: return use(Bases<1>());
        case 4: return use(Bases<4>());
        case 9: return use(Bases<9>());
        case 16: return use(Bases<16>());
        case 25: return use(Bases<25>());
    }
    return 1;  // cudaErrorInvalidValue
}

template <class T> __device__ __forceinline__ void load_camera(const DeviceScene<T>& scene, int64_t image, Camera<T>& camera) {
    set_lens(camera, scene.intrinsics + 9 * image, scene.near_planes[image], scene.far_planes[image], T(scene.width), T(scene.height));
    const T* matrix = scene.world_to_camera + 16 * image;
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) camera.rotation[3 * i + j] = matrix[4 * i + j];
        camera.translation[i] = matrix[4 * i + 3];
    }
}

// Six numbers of the symmetric part of Gaussian n's matrix in `array` [., 3, 3].
template <class T> __device__ __forceinline__ void load_symmetric(const T* array, int64_t n, T* out) {
    const T* m = array + 9 * n;
    int entry = 0;
    for (int i = 0; i < 3; ++i)
        for (int j = i; j < 3; ++j) out[entry++] = T(0.5) * (m[3 * i + j] + m[3 * j + i]);
}

// One Gaussian in one image, as the kernels that go back from splats want it.
template <class T> struct SeenGaussian {
    T mean[3], covariance[6], lit[3];
    Camera<T> camera;
    Projection<T> projection;

    // BASES: as many basis functions, if that is known where this is compiled.
    template <int BASES = 0> __device__ __forceinline__ Seen<T> load(const DeviceScene<T>& scene, int64_t n, int64_t image, int flags) {
        const int bases = BASES ? BASES : scene.bases;
        for (int j = 0; j < 3; ++j) mean[j] = scene.means[3 * n + j];
        load_symmetric(scene.covariances, n, covariance);
        for (int c = 0; c < 3; ++c) lit[c] = T(flags >> c & 1);
        load_camera(scene, image, camera);
        project(mean, covariance, camera, projection);
        return {bases, mean, covariance, scene.opacities[n], scene.harmonics + 3 * bases * n, lit, true};
    }
};

}  // namespace diff3r

// Exports a function template over the number type under the names of api.h.
#ifdef DIFF3R_CUDA_ON_HOST
#define DIFF3R_EXPORT(NAME, PARAMETERS, ...)                                                           \
    extern "C" int32_t diff3r_cuda_##NAME##_f32 PARAMETERS { return diff3r::NAME<float> __VA_ARGS__; } \
    extern "C" int32_t diff3r_cuda_##NAME##_f64 PARAMETERS { return diff3r::NAME<double> __VA_ARGS__; }
#else
#define DIFF3R_EXPORT(NAME, PARAMETERS, ...) \
    extern "C" int32_t diff3r_cuda_##NAME##_f32 PARAMETERS { return diff3r::NAME<float> __VA_ARGS__; }
#endif
