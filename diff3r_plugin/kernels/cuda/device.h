// What every GPU kernel starts from: typed views of the arguments, and the entry points of a module.
#pragma once

#ifdef DIFF3R_CUDA_ON_HOST
#include "cuda_on_host.h"
#endif

#include "arguments.h"
#include "math/splat_chain.h"

namespace diff3r {

constexpr int BLOCK = TILE * TILE;  // threads: one per pixel of a tile
constexpr int WARP = 32;
constexpr unsigned EVERY_LANE = 0xffffffffu;
constexpr int VISIBLE = 8;            // bit of `flags`

// Products must be those of gsplat's rendering. gsplat renders in float32, where a ray goes on above 1e-4f, that is from the
// next number on; in float64, in which only tests run, the rule is that of the other backends.
template <class T> struct RayStop { static constexpr T value = T(TRANSMITTANCE_STOP); };
template <> struct RayStop<float> { static constexpr float value = 1e-4f + 0x1p-37f; };

// Four numbers that are loaded as one, from addresses that are multiples of their size.
template <class T> struct alignas(4 * sizeof(T)) Four { T a, b, c, d; };

// The number itself, which the compiler cannot make anew from where it came from: a kernel's parameter in double, converted at every
// splat anew, say.
template <class T> DIFF3R_INLINE T kept_in_a_register(T x) { return x; }
#if defined(__CUDA_ARCH__)
template <> __device__ __forceinline__ float kept_in_a_register(float x) {
    float y;
    asm("mov.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
template <> __device__ __forceinline__ int kept_in_a_register(int x) {
    int y;
    asm("mov.b32 %0, %1;" : "=r"(y) : "r"(x));
    return y;
}
#endif

template <class T> struct DeviceScene : Inputs<T> {
    int64_t intersections;
    T alpha_cap;
    T *means2d, *conics, *colors, *splat_opacities, *depths, *reaches;
    int32_t *radii, *flags;
    const int32_t *tile_offsets, *flatten_ids;

    DIFF3R_INLINE explicit DeviceScene(const Diff3rDeviceScene& s)
        : Inputs<T>(s.inputs), intersections(s.intersections), alpha_cap(kept_in_a_register(T(s.alpha_cap))), means2d(static_cast<T*>(s.means2d)),
          conics(static_cast<T*>(s.conics)), colors(static_cast<T*>(s.colors)), splat_opacities(static_cast<T*>(s.splat_opacities)),
          depths(static_cast<T*>(s.depths)), reaches(static_cast<T*>(s.reaches)), radii(s.radii), flags(s.flags), tile_offsets(s.tile_offsets), flatten_ids(s.flatten_ids) {}
};

// Numbers of basis functions as types, for functions that take a group of that size.
template <int N> struct Bases { static constexpr int count = N; };

template <class T> __device__ __forceinline__ void load_camera(const DeviceScene<T>& scene, int64_t image, Camera<T>& camera) {
    set_lens(camera, scene.intrinsics + 9 * image, scene.near_planes[image], scene.far_planes[image], T(scene.width), T(scene.height), scene.dilation,
             scene.antialiased);
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

// What a module exports: NAME<T>(ARGUMENTS), and for kernels of bases NAME<T, BASES>(ARGUMENTS) with the constant DIFF3R_BASES that
// the module is compiled for: only so do as many numbers stay in registers. kernels/loading/kernel_table.py tells whoever launches
// them the threads, the parameters and the number of blocks. (On a CPU, cuda_on_host.h makes all instances.)
#ifndef DIFF3R_CUDA_ON_HOST
#define DIFF3R_ENTRY(NAME, THREADS, PARAMETERS, CALL)                                        \
    namespace diff3r::entries {                                                              \
    using T = float;                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS) diff3r_##NAME PARAMETERS { CALL; } \
    }
#define DIFF3R_KERNEL(NAME, THREADS, PARAMETERS, ARGUMENTS) DIFF3R_ENTRY(NAME, THREADS, PARAMETERS, NAME<T> ARGUMENTS)
#define DIFF3R_KERNEL_OF_BASES(NAME, THREADS, PARAMETERS, ARGUMENTS) \
    DIFF3R_ENTRY(NAME, THREADS, PARAMETERS, (NAME<T, DIFF3R_BASES> ARGUMENTS))
#endif
