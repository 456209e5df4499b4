// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// UCX, the distribution's own, on device memory it knows nothing of: transparent
// registration, zero copy, and a registration cache that never serves what is gone.
#include "common/files.hpp"
#include "support/mover.hpp"
#include "support/rdma_test.hpp"
#include "support/rdma_tool.hpp"

#include <sys/mman.h>
#include <ucp/api/ucp.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <format>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace pfn {
namespace {

constexpr std::size_t SIZE = std::size_t{1} << 18;
constexpr ucp_tag_t TAG = 7;

void check(ucs_status_t status, const char* what) {
    if (status != UCS_OK)
        throw std::runtime_error(std::format("{}: {}", what, ucs_status_string(status)));
}

/// Something of UCX, given back by @p RELEASE.
template<class Handle, auto RELEASE>
using Held = std::unique_ptr<std::remove_pointer_t<Handle>,
                             decltype([](Handle handle) { RELEASE(handle); })>;

/// Those of MPI. docs/ucx.md.
void set_environment() {
    // NOLINTBEGIN(concurrency-mt-unsafe): there is one thread yet
    std::istringstream lines(read_file(PFN_MPI_ENVIRONMENT));
    for (std::string line; std::getline(lines, line);) {
        if (const auto at = line.find('='); line.starts_with("UCX_") && at != std::string::npos)
            ::setenv(line.substr(0, at).c_str(), line.substr(at + 1).c_str(), 1);
    }
    // Spares it reading a thousand empty ones.
    ::setenv("UCX_IB_GID_INDEX", "1", 1);
    // NOLINTEND(concurrency-mt-unsafe)
}

/// One process's UCX, on one device.
class Ucx {
  public:
    explicit Ucx(const std::string& device) {
        ucp_config_t* config = nullptr;
        check(ucp_config_read(nullptr, nullptr, &config), "ucp_config_read");
        const Held<ucp_config_t*, ucp_config_release> held(config);
        check(ucp_config_modify(config, "NET_DEVICES", (device + ":1").c_str()), "NET_DEVICES");
        ucp_params_t params{};
        params.field_mask = UCP_PARAM_FIELD_FEATURES;
        params.features = UCP_FEATURE_TAG | UCP_FEATURE_RMA | UCP_FEATURE_AMO64;
        ucp_context_h context = nullptr;
        check(ucp_init(&params, config, &context), "ucp_init");
        context_.reset(context);
        const ucp_worker_params_t worker_params{};
        ucp_worker_h worker = nullptr;
        check(ucp_worker_create(context, &worker_params, &worker), "ucp_worker_create");
        worker_.reset(worker);
    }
    ~Ucx() { disconnect(); }
    Ucx(const Ucx&) = delete;
    Ucx& operator=(const Ucx&) = delete;

    /// An endpoint to @p peer. With @p mode PEER errors come back with the requests, but
    /// UCX has no atomics then.
    void connect(const Ucx& peer, ucp_err_handling_mode_t mode) {
        ucp_address_t* address = nullptr;
        std::size_t length = 0;
        check(ucp_worker_get_address(peer.worker(), &address, &length), "address");
        ucp_ep_params_t params{};
        params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLER |
                            UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE;
        params.address = address;
        params.err_mode = mode;
        params.err_handler.cb = [](void*, ucp_ep_h, ucs_status_t) {};
        const ucs_status_t status = ucp_ep_create(worker(), &params, &endpoint_);
        ucp_worker_release_address(peer.worker(), address);
        check(status, "ucp_ep_create");
    }

    /// Close it at once, whatever is under way.
    void disconnect() {
        if (!endpoint_)
            return;
        ucp_request_param_t param{};
        param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
        param.flags = UCP_EP_CLOSE_FLAG_FORCE;
        void* request = ucp_ep_close_nbx(std::exchange(endpoint_, nullptr), &param);
        if (!UCS_PTR_IS_PTR(request))
            return;
        while (ucp_request_check_status(request) == UCS_INPROGRESS)
            ucp_worker_progress(worker());
        ucp_request_free(request);
    }

    [[nodiscard]] ucp_context_h context() const { return context_.get(); }
    [[nodiscard]] ucp_worker_h worker() const { return worker_.get(); }
    [[nodiscard]] ucp_ep_h endpoint() const { return endpoint_; }

  private:
    Held<ucp_context_h, ucp_cleanup> context_;
    Held<ucp_worker_h, ucp_worker_destroy> worker_;
    ucp_ep_h endpoint_ = nullptr;
};

/// Memory of @p owner that @p user may reach.
class Shared {
  public:
    Shared(const Ucx& owner, std::span<std::byte> bytes, const Ucx& user)
        : address_(reinterpret_cast<std::uint64_t>(bytes.data())), context_(owner.context()) {
        ucp_mem_map_params_t params{};
        params.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH;
        params.address = bytes.data();
        params.length = bytes.size();
        check(ucp_mem_map(context_, &params, &memory_), "ucp_mem_map");
        void* packed = nullptr;
        std::size_t size = 0;
        check(ucp_rkey_pack(context_, memory_, &packed, &size), "ucp_rkey_pack");
        ucp_rkey_h rkey = nullptr;
        const ucs_status_t status = ucp_ep_rkey_unpack(user.endpoint(), packed, &rkey);
        ucp_rkey_buffer_release(packed);
        check(status, "ucp_ep_rkey_unpack");
        rkey_.reset(rkey);
    }
    ~Shared() {
        rkey_.reset();
        ucp_mem_unmap(context_, memory_);
    }
    Shared(const Shared&) = delete;
    Shared& operator=(const Shared&) = delete;

    [[nodiscard]] std::uint64_t address() const { return address_; }
    [[nodiscard]] ucp_rkey_h rkey() const { return rkey_.get(); }

  private:
    std::uint64_t address_;
    ucp_context_h context_;
    ucp_mem_h memory_ = nullptr;
    Held<ucp_rkey_h, ucp_rkey_destroy> rkey_;
};

/// MRs on @p buffer, as `rdma` shows them.
std::vector<Json> mrs_on(const DmaBuf& buffer) {
    std::vector<Json> found;
    for (const Json& mr : rdma("-dd resource show mr"))
        if (mr.value("drv_dmabuf", std::uint64_t{0}) == inode(buffer.fd()))
            found.push_back(mr);
    return found;
}

class UcxTest : public testing::TestWithParam<BufferCase> {
  protected:
    static void SetUpTestSuite() { set_environment(); }

    void SetUp() override { connect(); }
    void TearDown() override {
        gpu.disconnect();
        peer.disconnect();
    }

    /// New endpoints in place of what there was.
    void connect(ucp_err_handling_mode_t mode = UCP_ERR_HANDLING_MODE_PEER) {
        gpu.disconnect();
        peer.disconnect();
        gpu.connect(peer, mode);
        peer.connect(gpu, mode);
    }

    void progress() const {
        ucp_worker_progress(gpu.worker());
        ucp_worker_progress(peer.worker());
    }

    /// The end of @p request, which this waits for.
    ucs_status_t finish(void* request) const {
        if (!request)
            return UCS_OK;
        if (UCS_PTR_IS_ERR(request))
            return UCS_PTR_STATUS(request);
        const auto limit = std::chrono::steady_clock::now() + std::chrono::minutes(1);
        ucs_status_t status = UCS_INPROGRESS;
        while ((status = ucp_request_check_status(request)) == UCS_INPROGRESS) {
            progress();
            if (std::chrono::steady_clock::now() > limit)
                throw std::runtime_error("a request of UCX does not end");
        }
        ucp_request_free(request);
        return status;
    }

    /// Send @p from of one side into @p to of the other. There are new endpoints after
    /// an error, which breaks the old ones.
    ucs_status_t send(const Ucx& sender, std::span<const std::byte> from, const Ucx& receiver,
                      std::span<std::byte> to) {
        const ucp_request_param_t param{};
        void* const receive =
            ucp_tag_recv_nbx(receiver.worker(), to.data(), to.size(), TAG, ~ucp_tag_t{0}, &param);
        void* const sent =
            ucp_tag_send_nbx(sender.endpoint(), from.data(), from.size(), TAG, &param);
        const ucs_status_t received = finish(receive);
        if (received != UCS_OK)
            connect(); // the sender need not wait until it finds out by itself
        const ucs_status_t status = finish(sent);
        return received != UCS_OK ? received : status;
    }

    [[nodiscard]] DmaBuf alloc(std::size_t size = SIZE) const {
        return vram.alloc({.size = size,
                           .chunk = GetParam().fragmented ? page_size() : 0,
                           .placement = GetParam().placement});
    }

    VramDevice vram;
    Ucx gpu{GPU_DEVICE};
    Ucx peer{PEER_DEVICE};
};

INSTANTIATE_TEST_SUITE_P(Buffers, UcxTest, testing::ValuesIn(BUFFER_CASES), case_name);

// Messages beyond the threshold are read by the receiver straight out of the sender's
// buffer: the MR is on the dma-buf, and it is the device that touches the buffer.
TEST_P(UcxTest, MessagesAreZeroCopy) {
    const DmaBuf from = alloc();
    const DmaBuf to = alloc();
    const Mapping out = from.map();
    const Mapping in = to.map();
    fill_pattern(out.bytes(), 1);
    ASSERT_EQ(UCS_OK, send(gpu, out.bytes(), peer, in.bytes()));
    EXPECT_TRUE(has_pattern(in.bytes(), 1));

    // What the cache has kept, moved away, must be fetched by the next message.
    vram.move(from.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    vram.move(to.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    for (const DmaBuf* const buffer : {&from, &to}) {
        const auto mrs = mrs_on(*buffer);
        ASSERT_EQ(1U, mrs.size());
        EXPECT_EQ("pfn", mrs[0].at("drv_backend"));
        EXPECT_EQ("absent", mrs[0].at("drv_state"));
    }
    fill_pattern(out.bytes(), 2);
    ASSERT_EQ(UCS_OK, send(gpu, out.bytes(), peer, in.bytes()));
    EXPECT_TRUE(has_pattern(in.bytes(), 2));
    EXPECT_EQ("present", mrs_on(from)[0].at("drv_state"));
    EXPECT_EQ("present", mrs_on(to)[0].at("drv_state"));
}

// Eager messages are copied by the CPU, to and from device memory.
TEST_P(UcxTest, SmallMessages) {
    const DmaBuf buffer = alloc();
    const Mapping cpu = buffer.map();
    for (std::size_t size = 1; size <= 8192; size = 2 * size + 1) {
        fill_pattern(cpu.bytes().first(size), size);
        ASSERT_EQ(UCS_OK, send(gpu, cpu.bytes().first(size), peer, cpu.bytes().last(size)));
        ASSERT_TRUE(has_pattern(cpu.bytes().last(size), size)) << size << " bytes";
    }
}

TEST_P(UcxTest, PutGetAndFetchAndAdd) {
    connect(UCP_ERR_HANDLING_MODE_NONE);
    const DmaBuf buffer = alloc();
    const Mapping cpu = buffer.map();
    const Shared target(gpu, cpu.bytes(), peer);
    const Mapping host = Mapping::anonymous(SIZE);
    const ucp_request_param_t none{};

    fill_pattern(host.bytes(), 3);
    ASSERT_EQ(UCS_OK, finish(ucp_put_nbx(peer.endpoint(), host.bytes().data(), SIZE,
                                         target.address(), target.rkey(), &none)));
    std::memset(host.bytes().data(), 0, SIZE);
    ASSERT_EQ(UCS_OK, finish(ucp_get_nbx(peer.endpoint(), host.bytes().data(), SIZE,
                                         target.address(), target.rkey(), &none)));
    EXPECT_TRUE(has_pattern(host.bytes(), 3));
    EXPECT_TRUE(has_pattern(cpu.bytes(), 3));

    std::uint64_t before = 0;
    std::uint64_t now = 0;
    std::memcpy(&before, cpu.bytes().data() + 64, sizeof(before));
    const std::uint64_t five = 5;
    std::uint64_t fetched = 0;
    ucp_request_param_t reply{};
    reply.op_attr_mask = UCP_OP_ATTR_FIELD_REPLY_BUFFER | UCP_OP_ATTR_FIELD_DATATYPE;
    reply.reply_buffer = &fetched;
    reply.datatype = ucp_dt_make_contig(sizeof(five));
    ASSERT_EQ(UCS_OK, finish(ucp_atomic_op_nbx(peer.endpoint(), UCP_ATOMIC_OP_ADD, &five, 1,
                                               target.address() + 64, target.rkey(), &reply)));
    std::memcpy(&now, cpu.bytes().data() + 64, sizeof(now));
    EXPECT_EQ(before, fetched);
    EXPECT_EQ(before + five, now);
}

TEST_P(UcxTest, BuffersMoveMeanwhile) {
    const DmaBuf from = alloc();
    const DmaBuf to = alloc();
    const Mapping out = from.map();
    const Mapping in = to.map();
    Mover out_mover(vram, from.fd());
    Mover in_mover(vram, to.fd());
    for (std::uint64_t round = 0; out_mover.moves() < 20 || in_mover.moves() < 20; ++round) {
        fill_pattern(out.bytes(), round);
        ASSERT_EQ(UCS_OK, send(gpu, out.bytes(), peer, in.bytes()));
        ASSERT_TRUE(has_pattern(in.bytes(), round)) << "round " << round;
    }
    out_mover.stop();
    in_mover.stop();
}

// UCX keeps registrations until it sees the memory go. A buffer at an address where
// another one was is never served by the other one's MR.
TEST_P(UcxTest, CacheKnowsThatABufferHasGone) {
    const Mapping host = Mapping::anonymous(SIZE);
    const Mapping place = Mapping::anonymous(SIZE);
    for (std::uint64_t round = 1; round <= 40; ++round) {
        const DmaBuf buffer = alloc();
        // Over what is there, without munmap(); every other time with it.
        if (round % 2)
            ::munmap(place.bytes().data(), SIZE);
        void* const address = ::mmap(place.bytes().data(), SIZE, PROT_READ | PROT_WRITE,
                                     MAP_SHARED | MAP_FIXED, buffer.fd(), 0);
        ASSERT_EQ(place.bytes().data(), address);
        fill_pattern(place.bytes(), round);
        ASSERT_EQ(UCS_OK, send(gpu, place.bytes(), peer, host.bytes()));
        ASSERT_TRUE(has_pattern(host.bytes(), round)) << "round " << round;
        fill_pattern(host.bytes(), ~round);
        ASSERT_EQ(UCS_OK, send(peer, host.bytes(), gpu, place.bytes()));
        ASSERT_TRUE(has_pattern(place.bytes(), ~round)) << "round " << round;
    }
}

// Nobody tells UCX that a buffer was revoked. Messages from it fail; when it has memory
// again they fail or bring what is there now, but never what was there before. Mapped
// anew it is a buffer like any other.
TEST_P(UcxTest, RevokedIsAnErrorAndNeverOldData) {
    const DmaBuf buffer = alloc();
    Mapping cpu = buffer.map();
    const Mapping host = Mapping::anonymous(SIZE);
    fill_pattern(cpu.bytes(), 4);
    ASSERT_EQ(UCS_OK, send(gpu, cpu.bytes(), peer, host.bytes()));
    vram.revoke(buffer.fd());
    EXPECT_NE(UCS_OK, send(gpu, cpu.bytes(), peer, host.bytes()));

    vram.restore(buffer.fd(), GetParam().placement);
    fill_pattern(cpu.bytes(), 5);
    if (send(gpu, cpu.bytes(), peer, host.bytes()) == UCS_OK) {
        EXPECT_TRUE(has_pattern(host.bytes(), 5));
    }

    cpu = {};
    cpu = buffer.map();
    ASSERT_EQ(UCS_OK, send(gpu, cpu.bytes(), peer, host.bytes()));
    EXPECT_TRUE(has_pattern(host.bytes(), 5));
}

} // namespace
} // namespace pfn
