// The functions of NVIDIA's driver that launch our kernels, on a CPU: modules are names of instances, kernels are run by fibers,
// and what the driver would refuse, or silently take for something else, is refused. Two devices, with a context each.
#include "cuda_on_host.h"

#include <cstring>
#include <mutex>
#include <set>
#include <sstream>

namespace {

enum Code : int { SUCCESS = 0, INVALID_VALUE = 1, NOT_INITIALIZED = 3, INVALID_IMAGE = 200, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500 };
constexpr int DEVICES = 2;

struct Context {
    int device;
    bool retained;
};
struct Module {
    Context* context;
    std::string unit;
    int bits, bases;
};
struct Function {
    Context* context;
    const cuda_on_host::Entry* entry;
};

bool started = false;
Context contexts[DEVICES] = {{0, false}, {1, false}};
std::set<void*> modules, functions;
std::mutex running;  // fibers share their state
thread_local std::vector<Context*> stack;
Context* current() { return stack.empty() ? nullptr : stack.back(); }

int refused(int code, const std::string& why) {
    std::fprintf(stderr, "driver_on_host: %s\n", why.c_str());
    return code;
}

}  // namespace

extern "C" {

int cuInit(unsigned flags) {
    started = flags == 0;
    return started ? SUCCESS : INVALID_VALUE;
}
int cuDriverGetVersion(int* version) {
    *version = 13000;
    return SUCCESS;
}
int cuDeviceGet(int* device, int ordinal) {
    if (!started) return NOT_INITIALIZED;
    if (ordinal < 0 || ordinal >= DEVICES) return INVALID_VALUE;
    *device = ordinal;
    return SUCCESS;
}
int cuDevicePrimaryCtxRetain(void** context, int device) {
    if (!started) return NOT_INITIALIZED;
    contexts[device].retained = true;
    *context = &contexts[device];
    return SUCCESS;
}
int cuCtxGetCurrent(void** context) {
    *context = current();
    return SUCCESS;
}
int cuCtxPushCurrent_v2(void* context) {
    if (!context || !static_cast<Context*>(context)->retained) return INVALID_CONTEXT;
    stack.push_back(static_cast<Context*>(context));
    return SUCCESS;
}
int cuCtxPopCurrent_v2(void** context) {
    if (stack.empty()) return INVALID_CONTEXT;
    *context = stack.back();
    stack.pop_back();
    return SUCCESS;
}
int cuModuleLoadData(void** module, const char* image) {
    if (!current()) return INVALID_CONTEXT;
    std::istringstream words(image);
    std::string magic;
    Module made{current(), "", 0, 0};
    if (!(words >> magic >> made.unit >> made.bits >> made.bases) || magic != "on-host") return INVALID_IMAGE;
    *module = new Module(made);
    modules.insert(*module);
    return SUCCESS;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
    if (!modules.count(module)) return INVALID_HANDLE;
    const Module& from = *static_cast<Module*>(module);
    for (const auto& entry : cuda_on_host::entries())
        if (entry.name == name && entry.unit == from.unit && entry.bits == from.bits && entry.bases == from.bases) {
            *function = new Function{from.context, &entry};
            functions.insert(*function);
            return SUCCESS;
        }
    return NOT_FOUND;
}
int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned ty, unsigned tz, unsigned shared, void*,
                   void** parameters, void** extra) {
    if (!functions.count(function)) return INVALID_HANDLE;
    const Function& f = *static_cast<Function*>(function);
    const auto& entry = *f.entry;
    if (current() != f.context) return refused(INVALID_CONTEXT, entry.name + " is launched in another context than its own");
    if (x < 1 || x > 0x7fffffffu || y != 1 || z != 1 || ty != 1 || tz != 1) return refused(INVALID_VALUE, entry.name + ": a grid that is none");
    if (int(threads) != entry.threads) return refused(INVALID_VALUE, entry.name + " wants " + std::to_string(entry.threads) + " threads a block");
    if (shared) return refused(INVALID_VALUE, entry.name + " takes no dynamic shared memory");
    if (parameters || !extra || extra[0] != reinterpret_cast<void*>(1) || extra[2] != reinterpret_cast<void*>(2) || extra[4])
        return refused(INVALID_VALUE, entry.name + ": arguments come as one buffer");
    if (*static_cast<size_t*>(extra[3]) != entry.bytes)
        return refused(INVALID_VALUE, entry.name + " takes " + std::to_string(entry.bytes) + " bytes of arguments");
    const std::lock_guard<std::mutex> alone(running);
    entry.run(int(x), int(threads), static_cast<const char*>(extra[1]));
    return SUCCESS;
}
int cuGetErrorName(int code, const char** name) {
    *name = code == INVALID_VALUE ? "CUDA_ERROR_INVALID_VALUE" : "CUDA_ERROR_OF_THE_STAND_IN";
    return SUCCESS;
}
int cuGetErrorString(int code, const char** text) {
    *text = code == INVALID_VALUE ? "invalid argument" : "refused by the stand-in";
    return SUCCESS;
}
}
