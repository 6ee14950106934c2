// An NVIDIA driver that is the CPU: as much of libcuda.so as src/cuda/driver.rs calls, in front of the emulated kernels.
//
// What it shows: that every call is one that a driver takes, in an order in which a device does what was meant. It is stricter than
// a device is. Memory of the device cannot be touched by the host. Nothing that was asked of a stream happens before somebody waits
// for it, and what was asked of no stream happens after everything else (LATE), or all happens at once (EARLY): a result that
// depends on which is a race. A call without a context, of something that is not alive, or that a capture forbids, is refused: while a
// thread captures in the global mode, every thread's allocations and waits; in the mode of a thread, its own; in every mode, whatever
// anybody asks of the stream that is captured. A device may hang: then nothing is done any more, and a call that would wait for it is
// refused, since it would never return.
// What it cannot show: what NVIDIA's compiler makes of the kernels, and how long anything takes.
#include "emulator.cpp"

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <sys/mman.h>
#include <thread>

typedef int Status;
static constexpr Status SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101,
                        INVALID_CONTEXT = 201, INVALID_PTX = 218, UNSUPPORTED_PTX_VERSION = 222, INVALID_HANDLE = 400, NOT_FOUND = 500,
                        NOT_READY = 600, ILLEGAL_ADDRESS = 700, LAUNCH_TIMEOUT = 702, LAUNCH_FAILED = 719, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901;

static const std::map<Status, std::pair<const char *, const char *>> WORDS = {
    {SUCCESS, {"CUDA_SUCCESS", "no error"}},
    {INVALID_VALUE, {"CUDA_ERROR_INVALID_VALUE", "invalid argument"}},
    {OUT_OF_MEMORY, {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}},
    {NOT_INITIALIZED, {"CUDA_ERROR_NOT_INITIALIZED", "initialization error"}},
    {NO_DEVICE, {"CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}},
    {INVALID_DEVICE, {"CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"}},
    {INVALID_CONTEXT, {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"}},
    {INVALID_PTX, {"CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"}},
    {UNSUPPORTED_PTX_VERSION, {"CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."}},
    {INVALID_HANDLE, {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}},
    {NOT_FOUND, {"CUDA_ERROR_NOT_FOUND", "named symbol not found"}},
    {NOT_READY, {"CUDA_ERROR_NOT_READY", "device not ready"}},
    {LAUNCH_TIMEOUT, {"CUDA_ERROR_LAUNCH_TIMEOUT", "it would wait for ever"}},
    {ILLEGAL_ADDRESS, {"CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"}},
    {LAUNCH_FAILED, {"CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"}},
    {CAPTURE_UNSUPPORTED, {"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"}},
    {CAPTURE_INVALIDATED, {"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"}},
};

// What every device gives a block without being asked for more, and the threads that the kernels are compiled for.
static const unsigned SHARED_BYTES_MAX = 48 * 1024, BLOCK_THREADS = 256;
static const size_t PAGE = 4096;

struct Module { std::map<std::string, size_t> kernels; }; // name and bytes of its argument, as the PTX declares it
struct Function { std::string name; size_t bytes; bool loaded; };
struct Kernel { const Function *function; std::vector<u64> argument; int blocks; unsigned shared; };
typedef std::function<Status()> Work;
typedef std::vector<Work> Graph;
enum Mode { GLOBAL = 0, OF_A_THREAD = 1 };
struct Stream { std::vector<Work> queue; Graph *capture; bool invalid, asked; int mode; std::thread::id by; };
struct Injected { int after; Status status; bool sticky; };

static struct Driver {
    std::mutex mutex;
    bool late = true, initialised = false, hangs = false;
    int retained = 0;
    Status broken = SUCCESS; // as a context is after a kernel failed: for good
    std::map<std::string, int> calls;
    std::map<std::string, Injected> injected;
    std::string refusals;
    std::map<u64, size_t> device_memory;
    std::map<void *, size_t> host_memory;
    std::set<Module *> modules;
    std::vector<std::unique_ptr<Function>> functions;
    std::set<Stream *> streams;
    std::set<Graph *> graphs;
    std::map<void *, std::shared_ptr<Graph>> executables;
    Stream nobody = {};
} the;

static thread_local void *current;

static size_t pages(size_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

static void protect(int how) {
    for (auto &[address, bytes] : the.device_memory) mprotect((void *)address, pages(bytes), how);
}

static Status all(const std::vector<Work> &queue) {
    protect(PROT_READ | PROT_WRITE);
    for (auto &work : queue)
        if (Status status = work()) the.broken = status;
    protect(PROT_NONE);
    return the.broken;
}

static Status wait_for(Stream *stream) {
    if (the.hangs && !stream->queue.empty()) return LAUNCH_TIMEOUT;
    for (Stream *next : {stream, &the.nobody}) {
        std::vector<Work> queue;
        queue.swap(next->queue);
        if (Status status = all(queue)) return status;
    }
    return SUCCESS;
}

static Status wait_for_all() {
    if (the.hangs) return LAUNCH_TIMEOUT; // it may always be at work
    for (Stream *stream : the.streams)
        if (Status status = wait_for(stream)) return status;
    return wait_for(&the.nobody);
}

static Status ask(Stream *stream, Work work) {
    if (stream->capture) return stream->capture->push_back(work), SUCCESS;
    if (!the.late && !the.hangs) return all({work});
    stream->queue.push_back(work);
    return SUCCESS;
}

// The capture that forbids this thread to wait or to take memory.
static Stream *forbidding() {
    for (Stream *stream : the.streams)
        if (stream->capture && (stream->mode == GLOBAL || stream->by == std::this_thread::get_id())) return stream;
    return nullptr;
}

// Whether work may be put on a stream: on one that is captured only by the thread that captures it.
static Status takes(Stream *stream) {
    if (!the.streams.count(stream)) return INVALID_HANDLE;
    if (!stream->capture || stream->by == std::this_thread::get_id()) return SUCCESS;
    return stream->invalid = true, CAPTURE_UNSUPPORTED;
}

// Whether it may be waited for: not while it is captured.
static Status waits(Stream *stream) {
    if (!the.streams.count(stream)) return INVALID_HANDLE;
    return stream->capture ? stream->invalid = true, CAPTURE_UNSUPPORTED : SUCCESS;
}

enum Needs { NOTHING, INITIALISED, CONTEXT, NO_CAPTURE }; // each needs what those before it need

static Status why_not(Needs needs) {
    if (needs >= INITIALISED && !the.initialised) return NOT_INITIALIZED;
    if (needs >= INITIALISED && the.broken) return the.broken;
    if (needs >= CONTEXT && (!current || !the.retained)) return INVALID_CONTEXT;
    Stream *capturing = needs >= NO_CAPTURE ? forbidding() : nullptr;
    if (capturing) capturing->invalid = true;
    return capturing ? CAPTURE_UNSUPPORTED : SUCCESS;
}

// Every call of the driver: counted, failed where a test wants that, refused where it is not legal.
template <typename Body> static Status call(const char *name, Needs needs, Body body) {
    std::lock_guard<std::mutex> lock(the.mutex);
    the.calls[name]++;
    auto injected = the.injected.find(name);
    if (injected != the.injected.end() && injected->second.after-- <= 0) {
        if (injected->second.sticky) the.broken = injected->second.status;
        return injected->second.status;
    }
    Status before = the.broken, status = why_not(needs);
    if (!status) status = body();
    if (status && status != NOT_READY && !before) the.refusals += std::string(name) + ": " + WORDS.at(status).first + "\n";
    return status;
}

template <typename Set, typename Key> static bool alive(const Set &set, const Key &key) { return set.count(key) != 0; }

// Whether all of it lies in memory of the device.
static bool on_device(u64 address, size_t bytes) {
    auto next = the.device_memory.upper_bound(address);
    if (next == the.device_memory.begin()) return false;
    --next;
    return address + bytes <= next->first + next->second;
}

static bool page_locked(const void *address) {
    auto next = the.host_memory.upper_bound((void *)address);
    if (next == the.host_memory.begin()) return false;
    --next;
    return (const char *)address < (const char *)next->first + next->second;
}

#define API(name, ...) extern "C" Status name(__VA_ARGS__)

// -------------------------------------------------------------------------------------------------- the driver and its device

API(cuInit, unsigned) {
    return call("cuInit", NOTHING, [] { return the.initialised = true, SUCCESS; });
}

API(cuDriverGetVersion, int *version) {
    return call("cuDriverGetVersion", NOTHING, [=] { return *version = 13000, SUCCESS; });
}

API(cuGetErrorName, Status status, const char **text) {
    return WORDS.count(status) ? *text = WORDS.at(status).first, SUCCESS : INVALID_VALUE;
}

API(cuGetErrorString, Status status, const char **text) {
    return WORDS.count(status) ? *text = WORDS.at(status).second, SUCCESS : INVALID_VALUE;
}

API(cuDeviceGetCount, int *count) {
    return call("cuDeviceGetCount", INITIALISED, [=] { return *count = 1, SUCCESS; });
}

API(cuDeviceGet, int *device, int ordinal) {
    return call("cuDeviceGet", INITIALISED, [=] { return ordinal == 0 ? *device = 0, SUCCESS : INVALID_DEVICE; });
}

API(cuDeviceGetName, char *name, int length, int) {
    return call("cuDeviceGetName", INITIALISED, [=] { return std::snprintf(name, length, "emulated"), SUCCESS; });
}

API(cuDeviceTotalMem_v2, size_t *bytes, int) {
    return call("cuDeviceTotalMem_v2", INITIALISED, [=] { return *bytes = size_t(1) << 30, SUCCESS; });
}

API(cuDeviceGetAttribute, int *value, int attribute, int) {
    // Compute capability 7.5; no memory pools.
    return call("cuDeviceGetAttribute", INITIALISED, [=] { return *value = attribute == 75 ? 7 : attribute == 76 ? 5 : 0, SUCCESS; });
}

API(cuDevicePrimaryCtxRetain, void **context, int) {
    return call("cuDevicePrimaryCtxRetain", INITIALISED, [=] { return the.retained++, *context = &the, SUCCESS; });
}

API(cuDevicePrimaryCtxRelease_v2, int) {
    return call("cuDevicePrimaryCtxRelease_v2", INITIALISED, [] { return the.retained > 0 ? the.retained--, SUCCESS : INVALID_CONTEXT; });
}

API(cuCtxGetCurrent, void **context) {
    return call("cuCtxGetCurrent", INITIALISED, [=] { return *context = current, SUCCESS; });
}

API(cuCtxSetCurrent, void *context) {
    return call("cuCtxSetCurrent", INITIALISED, [=] { return current = context, SUCCESS; });
}

API(cuCtxSynchronize) {
    return call("cuCtxSynchronize", NO_CAPTURE, wait_for_all);
}

// ------------------------------------------------------------------------------------------------------------------- kernels

// Names and argument sizes of the kernels that the PTX has.
static Module *read(const std::string &ptx) {
    auto module = std::make_unique<Module>();
    for (size_t at = 0; (at = ptx.find(".entry ", at)) != std::string::npos; at++) {
        const size_t name = at + 7, end = ptx.find('(', name), open = ptx.find('[', end);
        module->kernels[ptx.substr(name, end - name)] = std::stoul(ptx.substr(open + 1));
    }
    return module.release();
}

API(cuModuleLoadData, Module **module, const char *image) {
    return call("cuModuleLoadData", NO_CAPTURE, [=] {
        if (!std::strstr(image, ".version 9.0")) return std::strstr(image, ".version") ? UNSUPPORTED_PTX_VERSION : INVALID_PTX;
        the.modules.insert(*module = read(image));
        return SUCCESS;
    });
}

API(cuModuleUnload, Module *module) {
    return call("cuModuleUnload", CONTEXT, [=] {
        if (!the.modules.erase(module)) return INVALID_HANDLE;
        delete module;
        return SUCCESS;
    });
}

API(cuModuleGetFunction, const Function **function, Module *module, const char *name) {
    return call("cuModuleGetFunction", CONTEXT, [=] {
        if (!alive(the.modules, module)) return INVALID_HANDLE;
        auto found = module->kernels.find(name);
        if (found == module->kernels.end()) return NOT_FOUND;
        the.functions.emplace_back(new Function{name, found->second, false});
        *function = the.functions.back().get();
        return SUCCESS;
    });
}

API(cuFuncGetAttribute, int *value, int, Function *function) {
    return call("cuFuncGetAttribute", CONTEXT, [=] { return function->loaded = true, *value = 32, SUCCESS; });
}

static Status run(const Kernel &kernel) {
    const auto &[function, argument, blocks, shared] = kernel;
    return emulate(function->name.c_str(), argument.data(), function->bytes, blocks, BLOCK_THREADS, shared, 2) == DONE ? SUCCESS : LAUNCH_FAILED;
}

API(cuLaunchKernel, const Function *function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threads_y, unsigned threads_z,
    unsigned shared, Stream *stream, void **parameters, void **) {
    return call("cuLaunchKernel", CONTEXT, [=] {
        if (Status status = takes(stream)) return status;
        const bool fits = x > 0 && x < 1u << 31 && y == 1 && z == 1 && threads == BLOCK_THREADS && threads_y == 1 && threads_z == 1;
        if (!fits || shared > SHARED_BYTES_MAX) return INVALID_VALUE;
        Kernel kernel = {function, std::vector<u64>((function->bytes + 7) / 8), (int)x, shared};
        std::memcpy(kernel.argument.data(), parameters[0], function->bytes);
        if (!stream->capture) return ask(stream, [=] { return run(kernel); });
        // A kernel is loaded when it is first used, which a capture forbids.
        if (stream->invalid || !function->loaded) return stream->invalid = true, CAPTURE_INVALIDATED;
        return ask(stream, [=] { return run(kernel); });
    });
}

// ------------------------------------------------------------------------------------------------------- streams and graphs

API(cuStreamCreate, Stream **stream, unsigned flags) {
    return call("cuStreamCreate", NO_CAPTURE, [=] {
        if (flags != 1) return INVALID_VALUE; // one that does not wait for the null stream is all that is emulated
        return the.streams.insert(*stream = new Stream{}), SUCCESS;
    });
}

API(cuStreamDestroy_v2, Stream *stream) {
    return call("cuStreamDestroy_v2", CONTEXT, [=] {
        if (!alive(the.streams, stream)) return INVALID_HANDLE;
        Status status = the.hangs ? SUCCESS : wait_for(stream); // destroyed when it is done
        the.streams.erase(stream);
        delete stream;
        return status;
    });
}

API(cuStreamSynchronize, Stream *stream) {
    return call("cuStreamSynchronize", NO_CAPTURE, [=] {
        Status status = waits(stream);
        return status ? status : wait_for(stream);
    });
}

// What is not done at the first look is done at the second, unless the device hangs.
API(cuStreamQuery, Stream *stream) {
    return call("cuStreamQuery", NO_CAPTURE, [=] {
        if (Status status = waits(stream)) return status;
        if (stream->queue.empty()) return the.broken;
        stream->asked = !stream->asked;
        return stream->asked || the.hangs ? NOT_READY : wait_for(stream);
    });
}

API(cuStreamBeginCapture_v2, Stream *stream, int mode) {
    return call("cuStreamBeginCapture_v2", CONTEXT, [=] {
        if (!alive(the.streams, stream)) return INVALID_HANDLE;
        if (stream->capture || (mode != GLOBAL && mode != OF_A_THREAD)) return INVALID_VALUE;
        stream->mode = mode;
        stream->capture = new Graph();
        stream->invalid = false;
        stream->by = std::this_thread::get_id();
        return SUCCESS;
    });
}

API(cuStreamEndCapture, Stream *stream, Graph **graph) {
    return call("cuStreamEndCapture", CONTEXT, [=] {
        if (!alive(the.streams, stream) || !stream->capture) return INVALID_HANDLE;
        std::unique_ptr<Graph> captured(stream->capture);
        stream->capture = nullptr;
        *graph = nullptr;
        if (stream->invalid || captured->empty()) return CAPTURE_INVALIDATED;
        the.graphs.insert(*graph = captured.release());
        return SUCCESS;
    });
}

API(cuGraphInstantiateWithFlags, void **executable, Graph *graph, unsigned long long flags) {
    return call("cuGraphInstantiateWithFlags", CONTEXT, [=] {
        if (!alive(the.graphs, graph)) return INVALID_HANDLE;
        if (flags != 0) return INVALID_VALUE;
        auto copy = std::make_shared<Graph>(*graph);
        the.executables[*executable = copy.get()] = copy;
        return SUCCESS;
    });
}

API(cuGraphUpload, void *executable, Stream *stream) {
    return call("cuGraphUpload", CONTEXT, [=] { return alive(the.executables, executable) && alive(the.streams, stream) ? SUCCESS : INVALID_HANDLE; });
}

API(cuGraphLaunch, void *executable, Stream *stream) {
    return call("cuGraphLaunch", NO_CAPTURE, [=] {
        if (!alive(the.executables, executable)) return INVALID_HANDLE;
        if (Status status = takes(stream)) return status;
        auto graph = the.executables[executable];
        return ask(stream, [=] {
            for (auto &work : *graph)
                if (Status status = work()) return status;
            return SUCCESS;
        });
    });
}

API(cuGraphExecDestroy, void *executable) {
    return call("cuGraphExecDestroy", CONTEXT, [=] { return the.executables.erase(executable) ? SUCCESS : INVALID_HANDLE; });
}

API(cuGraphDestroy, Graph *graph) {
    return call("cuGraphDestroy", CONTEXT, [=] {
        if (!the.graphs.erase(graph)) return INVALID_HANDLE;
        delete graph;
        return SUCCESS;
    });
}

// -------------------------------------------------------------------------------------------------------------------- memory

API(cuMemAlloc_v2, u64 *address, size_t bytes) {
    return call("cuMemAlloc_v2", NO_CAPTURE, [=] {
        if (bytes == 0) return INVALID_VALUE;
        // Between pages that nobody may touch, and full of what nobody wrote.
        char *room = (char *)mmap(nullptr, pages(bytes) + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (room == MAP_FAILED) return OUT_OF_MEMORY;
        mprotect(room + PAGE, pages(bytes), PROT_READ | PROT_WRITE);
        std::memset(room + PAGE, 0xff, pages(bytes));
        mprotect(room + PAGE, pages(bytes), PROT_NONE);
        the.device_memory[*address = (u64)(room + PAGE)] = bytes;
        return SUCCESS;
    });
}

API(cuMemFree_v2, u64 address) {
    return call("cuMemFree_v2", NO_CAPTURE, [=] {
        auto found = the.device_memory.find(address);
        if (found == the.device_memory.end()) return INVALID_VALUE;
        Status status = wait_for_all(); // a driver waits for what may still use it
        munmap((char *)address - PAGE, pages(found->second) + 2 * PAGE);
        the.device_memory.erase(found);
        return status;
    });
}

static Status set(Stream *stream, u64 to, unsigned char value, size_t bytes) {
    if (Status status = stream == &the.nobody ? SUCCESS : takes(stream)) return status;
    if (!on_device(to, bytes)) return INVALID_VALUE;
    return ask(stream, [=] { return std::memset((void *)to, value, bytes), SUCCESS; });
}

// Without a stream, and over before it is done: a stream that waits for nobody may overtake it.
API(cuMemsetD8_v2, u64 to, unsigned char value, size_t bytes) {
    return call("cuMemsetD8_v2", NO_CAPTURE, [=] { return set(&the.nobody, to, value, bytes); });
}

API(cuMemsetD8Async, u64 to, unsigned char value, size_t bytes, Stream *stream) {
    return call("cuMemsetD8Async", CONTEXT, [=] { return set(stream, to, value, bytes); });
}

API(cuMemHostAlloc, void **address, size_t bytes, unsigned flags) {
    return call("cuMemHostAlloc", NO_CAPTURE, [=] {
        if (bytes == 0 || flags != (1 | 2)) return INVALID_VALUE; // portable, and seen by the device
        *address = std::aligned_alloc(PAGE, pages(bytes));
        std::memset(*address, 0xff, pages(bytes));
        the.host_memory[*address] = bytes;
        return SUCCESS;
    });
}

API(cuMemFreeHost, void *address) {
    return call("cuMemFreeHost", NO_CAPTURE, [=] {
        if (!alive(the.host_memory, address)) return INVALID_VALUE;
        Status status = wait_for_all();
        the.host_memory.erase(address);
        std::free(address);
        return status;
    });
}

API(cuMemcpyHtoDAsync_v2, u64 to, const void *from, size_t bytes, Stream *stream) {
    return call("cuMemcpyHtoDAsync_v2", NO_CAPTURE, [=] {
        if (Status status = takes(stream)) return status;
        if (!on_device(to, bytes)) return INVALID_VALUE;
        if (page_locked(from)) return ask(stream, [=] { return std::memcpy((void *)to, from, bytes), SUCCESS; });
        // Memory that may be swapped out is read before the call returns.
        std::vector<char> staged((const char *)from, (const char *)from + bytes);
        return ask(stream, [=] { return std::memcpy((void *)to, staged.data(), bytes), SUCCESS; });
    });
}

API(cuMemcpyDtoHAsync_v2, void *to, u64 from, size_t bytes, Stream *stream) {
    return call("cuMemcpyDtoHAsync_v2", NO_CAPTURE, [=] {
        if (Status status = takes(stream)) return status;
        if (!on_device(from, bytes)) return INVALID_VALUE;
        return ask(stream, [=] { return std::memcpy(to, (void *)from, bytes), SUCCESS; });
    });
}

// ------------------------------------------------------------------------------------------------------------- for the tests

// Begins anew: in which time things happen, no failure, no call counted, the context whole. What a broken context could not give
// back is forgotten, as a driver does when the process ends.
extern "C" void emulated_begin(int late) {
    std::lock_guard<std::mutex> lock(the.mutex);
    the.late = late;
    if (the.broken || the.hangs) {
        the.retained = 0;
        the.device_memory.clear(), the.host_memory.clear(), the.modules.clear(), the.streams.clear(), the.graphs.clear();
        the.executables.clear();
    }
    the.broken = SUCCESS;
    the.hangs = false;
    the.calls.clear(), the.injected.clear(), the.refusals.clear();
}

// The call `name` fails from the `after`th on; a sticky failure breaks the context.
extern "C" void emulated_fail(const char *name, int after, int status, int sticky) {
    std::lock_guard<std::mutex> lock(the.mutex);
    the.injected[name] = {after, status, sticky != 0};
}

// From now on the device does nothing any more.
extern "C" void emulated_hang() {
    std::lock_guard<std::mutex> lock(the.mutex);
    the.hangs = true;
}

extern "C" int emulated_calls(const char *name) {
    std::lock_guard<std::mutex> lock(the.mutex);
    return the.calls.count(name) ? the.calls[name] : 0;
}

extern "C" int emulated_all_calls() {
    std::lock_guard<std::mutex> lock(the.mutex);
    int sum = 0;
    for (auto &[name, count] : the.calls) sum += count;
    return sum;
}

// Everything that was taken and not given back.
extern "C" int emulated_held() {
    std::lock_guard<std::mutex> lock(the.mutex);
    return the.retained + the.device_memory.size() + the.host_memory.size() + the.modules.size() + the.streams.size() + the.graphs.size() +
           the.executables.size();
}

// Calls that were refused because they were not legal, one a line.
extern "C" const char *emulated_refusals() { return the.refusals.c_str(); }
