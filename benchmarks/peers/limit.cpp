// One ONNX model over HTTP/1.1, as a careful C++ programmer would serve it by hand.
//
//     limit MODEL PORT [THREADS]
//
//     epoll ─▶ llhttp ─▶ simdjson ─▶ the floats of all that came at once ─▶ ONNX Runtime ─▶ to_chars ─▶ send
//
// Each thread has a listener, an epoll, a session and a batch of its own; nothing is locked. What one epoll_wait
// finds is run together, up to MOST_ROWS rows, and nobody is waited for. No time limits, no TLS, no logs.

#include <llhttp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <onnxruntime/onnxruntime_cxx_api.h>
#include <simdjson.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cfloat>
#include <charconv>
#include <cmath>
#include <cstring>
#include <deque>
#include <filesystem>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace json = simdjson::ondemand;
using simdjson::SIMDJSON_PADDING;

constexpr size_t MOST_ROWS = 64;  // of several requests in one run; a larger request runs alone
constexpr size_t MOST_BODY = 64 << 20;
constexpr size_t LEAST_READ = 8 << 10;

static std::string as_json(std::string_view text) {
    std::string out = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + '"';
}

// -- the model -----------------------------------------------------------------------------------------------------

struct Tensor {
    std::string name;
    size_t width;
    std::string opening;       // of a head's part of an answer
    const char *below, *above;  // of a head of one value: its end, with the label on either side of 0.5
    std::vector<float> data;   // [rows, width]

    size_t rows() const { return data.size() / width; }
    void resize(size_t rows) { data.resize(rows * width); }
    float* row(size_t i) { return data.data() + i * width; }
    Ort::Value view(size_t first, size_t rows) {
        static const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        const int64_t shape[] = {int64_t(rows), int64_t(width)};
        return Ort::Value::CreateTensor(memory, row(first), rows * width, shape, 2);
    }
};

class Model {
   public:
    Model(const Ort::Env& env, const std::filesystem::path& file) : session(env, file.c_str(), one_thread()) {
        Ort::AllocatorWithDefaultOptions allocator;
        for (size_t i = 0; i < session.GetInputCount(); i++)
            inputs.push_back(tensor(session.GetInputNameAllocated(i, allocator).get(), session.GetInputTypeInfo(i)));
        for (size_t i = 0; i < session.GetOutputCount(); i++)
            heads.push_back(tensor(session.GetOutputNameAllocated(i, allocator).get(), session.GetOutputTypeInfo(i)));
        for (const Tensor& input : inputs) input_names.push_back(input.name.c_str());
        for (const Tensor& head : heads) head_names.push_back(head.name.c_str());
        const auto version = file.parent_path();  // <name>/<version>/model.onnx
        opening = "{\"model\":" + as_json(version.parent_path().filename().string()) +
                  ",\"version\":" + as_json(version.filename().string()) + ",\"predictions\":[";
    }

    // The rows of the batch.
    size_t rows() const { return inputs[0].rows(); }

    void keep(size_t rows) {
        for (Tensor& input : inputs) input.resize(rows);
    }

    // Add a body's rows to the batch. SIMDJSON_PADDING bytes behind it can be read. After an exception part of the
    // body may be there.
    void read(const char* body, size_t length) {
        const size_t before = rows();
        json::document document = parser.iterate(body, length, length + SIMDJSON_PADDING);
        bool found = false;
        for (auto field : document.get_object()) {
            const std::string_view key = field.unescaped_key();
            if (std::exchange(found, true) || key != "instances")
                throw std::invalid_argument("body: expected \"instances\" once, and nothing else");
            size_t row = 0;
            for (auto instance : field.value().get_array()) read_row(instance.get_object(), row++, before);
        }
        if (!document.at_end()) throw std::invalid_argument("body: expected nothing behind the object");
        if (rows() == before) throw std::invalid_argument("instances: expected a list of at least one row");
    }

    // Run some rows of the batch; the heads hold their answers then.
    void run(size_t first, size_t rows) {
        std::vector<Ort::Value> in, out;
        for (Tensor& input : inputs) in.push_back(input.view(first, rows));
        for (Tensor& head : heads) {
            head.resize(rows);
            out.push_back(head.view(0, rows));
        }
        session.Run(Ort::RunOptions{nullptr}, input_names.data(), in.data(), in.size(), head_names.data(), out.data(),
                    out.size());
    }

    // The answer for some of the rows that were run.
    void write(size_t first, size_t rows, std::string& out) {
        out = opening;
        for (size_t i = first; i < first + rows; i++) {
            char before = '{';
            if (i != first) out += ',';
            for (Tensor& head : heads) {
                (out += std::exchange(before, ',')) += head.opening;
                write_head(head, head.row(i), out);
            }
            out += '}';
        }
        out += "]}";
    }

   private:
    static Ort::SessionOptions one_thread() {
        Ort::SessionOptions options;
        options.SetIntraOpNumThreads(1);
        return options;
    }

    static Tensor tensor(const std::string& name, const Ort::TypeInfo& type) {
        const auto info = type.GetTensorTypeAndShapeInfo();
        const auto shape = info.GetShape();
        if (info.GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT || shape.size() != 2 || shape[1] < 1)
            throw std::invalid_argument(name + ": expected float32 of [rows, width]");
        const bool fruit = name == "o2";
        return {name, size_t(shape[1]), as_json(name) + ":{\"value\":", fruit ? "\"Apple\"}" : "\"no\"}",
                fruit ? "\"Banana\"}" : "\"yes\"}", {}};
    }

    // Add row `i` of a body, behind the `before` rows of earlier ones.
    void read_row(json::object instance, size_t i, size_t before) {
        const size_t have = before + i;
        auto wrong = [&](const std::string& what) {
            return std::invalid_argument("instances[" + std::to_string(i) + "]" + what);
        };
        for (auto field : instance) {
            const std::string_view key = field.unescaped_key();
            auto input = std::find_if(inputs.begin(), inputs.end(), [&](auto& input) { return input.name == key; });
            if (input == inputs.end() || input->rows() != have) throw wrong(": expected each input once, and no other");
            input->resize(have + 1);
            if (!read_numbers(field.value(), input->row(have), input->width))
                throw wrong("." + input->name + ": expected numbers, " + std::to_string(input->width) + " of them");
        }
        for (const Tensor& input : inputs)
            if (input.rows() != have + 1) throw wrong("." + input.name + ": expected it, received nothing");
    }

    static bool read_numbers(json::value value, float* to, size_t count) {
        json::array numbers;
        if (value.get_array().get(numbers)) return false;
        const float* end = to + count;
        for (auto element : numbers) {
            double number;
            if (uint64_t whole; !element.get_uint64().get(whole))  // as pixels are: less work than a double
                number = double(whole);
            else if (element.get_double().get(number))
                return false;
            if (to == end || std::abs(number) > FLT_MAX) return false;
            *to++ = float(number);
        }
        return to == end;
    }

    // With the label that the benchmark's model has: one of two for one value, the likeliest digit of several.
    static void write_head(const Tensor& head, const float* values, std::string& out) {
        const float* end = values + head.width;
        bool unknown = false;
        if (head.width > 1) out += '[';
        for (const float* value = values; value != end; value++) {
            char text[16];
            if (value != values) out += ',';
            if (std::isfinite(*value))
                out.append(text, std::to_chars(text, std::end(text), *value).ptr);
            else
                out += "null";
            unknown |= std::isnan(*value);
        }
        if (head.width > 1) out += ']';
        out += ",\"label\":";
        if (unknown)
            out += "null}";
        else if (head.width == 1)
            out += *values > 0.5f ? head.above : head.below;
        else
            ((out += '"') += std::to_string(std::max_element(values, end) - values)) += "\"}";
    }

    Ort::Session session;
    std::vector<Tensor> inputs, heads;
    std::vector<const char*> input_names, head_names;
    std::string opening;
    json::parser parser;
};

// -- HTTP ----------------------------------------------------------------------------------------------------------

class Worker;

struct Connection {
    Connection(int fd, Worker& worker, const llhttp_settings_t& settings) : fd(fd), worker(worker) {
        llhttp_init(&http, HTTP_REQUEST, &settings);
        http.data = this;
    }
    ~Connection() { close(fd); }

    // As much of `out` as goes without waiting.
    void send() {
        while (sent < out.size()) {
            const ssize_t n = ::send(fd, out.data() + sent, out.size() - sent, MSG_NOSIGNAL);
            if (n < 0 && errno == EAGAIN) return;
            last |= n < 0;
            sent = n < 0 ? out.size() : sent + n;
        }
        out.clear();
        sent = 0;
    }

    const int fd;
    Worker& worker;
    llhttp_t http;
    std::string url;
    std::string in = std::string(2 * LEAST_READ, 0);
    size_t used = 0;              // of `in`
    size_t body = 0, length = 0;  // what `in` has of the request's body
    std::string out;
    size_t sent = 0;    // of `out`
    bool last = false;  // nothing more is read, and it is closed when `out` is sent
    uint32_t events = EPOLLIN;
};

class Worker {
   public:
    Worker(const Ort::Env& env, const char* file) : model(env, file) {
        llhttp_settings_init(&settings);
        settings.on_url = [](llhttp_t* http, const char* at, size_t length) {
            std::string& url = of(http).url;
            url.append(at, std::min(length, 64 - url.size()));
            return 0;
        };
        settings.on_headers_complete = [](llhttp_t* http) { return http->content_length > MOST_BODY ? -1 : 0; };
        settings.on_body = [](llhttp_t* http, const char* at, size_t length) -> int {
            Connection& c = of(http);
            if (c.length + length > MOST_BODY) return HPE_USER;
            if (!c.length) c.body = at - c.in.data();
            char* to = c.in.data() + c.body + c.length;
            if (to != at) std::memmove(to, at, length);  // over the size of a chunk
            c.length += length;
            return 0;
        };
        settings.on_message_complete = [](llhttp_t* http) {
            of(http).worker.take(of(http));
            return 0;
        };
    }

    void listen(uint16_t port) {
        const int on = 1;
        const sockaddr_in at{AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}, {}};
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
        if (bind(listener, reinterpret_cast<const sockaddr*>(&at), sizeof at) || ::listen(listener, SOMAXCONN))
            throw std::system_error(errno, std::generic_category(), "port " + std::to_string(port));
        watch(EPOLL_CTL_ADD, listener, nullptr, EPOLLIN);
    }

    void serve(std::deque<Worker>& all) {
        epoll_event events[256];
        for (;;) {
            const int n = epoll_wait(epoll, events, std::size(events), -1);
            for (int i = 0; i < n; i++) {
                auto* c = static_cast<Connection*>(events[i].data.ptr);
                if (!c)
                    accept(all);
                else if (events[i].events & EPOLLOUT)
                    c->send();
                else
                    receive(*c);
            }
            flush();
            for (int i = 0; i < n; i++)
                if (auto* c = static_cast<Connection*>(events[i].data.ptr)) settle(*c);
        }
    }

   private:
    struct Pending {
        Connection* to;
        size_t rows;  // in the batch; none where the answer is known
        const char* status;
        std::string answer;
        bool last;
    };

    static Connection& of(llhttp_t* http) { return *static_cast<Connection*>(http->data); }

    void watch(int operation, int fd, Connection* c, uint32_t events) {
        epoll_event event{events, {c}};
        epoll_ctl(epoll, operation, fd, &event);
    }

    // The kernel chooses a listener by chance, for all connections the same one at worst: so they are dealt out here.
    void accept(std::deque<Worker>& all) {
        static std::atomic<size_t> turn;
        const int on = 1;
        for (int fd; (fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            Worker& worker = all[turn++ % all.size()];
            worker.watch(EPOLL_CTL_ADD, fd, new Connection(fd, worker, worker.settings), EPOLLIN);
        }
    }

    void receive(Connection& c) {
        while (!c.last) {
            if (c.in.size() < c.used + LEAST_READ + SIMDJSON_PADDING) c.in.resize(2 * c.in.size());
            const size_t room = c.in.size() - c.used - SIMDJSON_PADDING;
            const ssize_t n = recv(c.fd, c.in.data() + c.used, room, 0);
            if (n <= 0) {
                c.last = n == 0 || errno != EAGAIN;
                return;
            }
            const llhttp_errno_t error = llhttp_execute(&c.http, c.in.data() + c.used, n);
            c.used = c.length ? c.body + c.length : 0;
            if (error != HPE_OK && !c.last) {
                c.last = true;
                if (error == HPE_USER || error == HPE_CB_HEADERS_COMPLETE)
                    refuse(c, "413 Content Too Large", "body: expected 64 MiB at most");
                else
                    refuse(c, "400 Bad Request", llhttp_get_error_reason(&c.http));
            }
            if (size_t(n) < room) return;
        }
    }

    // A whole request has come.
    void take(Connection& c) {
        if (c.last) return;
        const bool known = c.http.method == HTTP_POST && c.url == "/predict";
        const size_t before = model.rows();
        c.last = !known || !llhttp_should_keep_alive(&c.http);
        if (!known) {
            refuse(c, "404 Not Found", "expected POST /predict");
        } else {
            try {
                model.read(c.in.data() + c.body, c.length);
                pending.push_back({&c, model.rows() - before, "200 OK", {}, c.last});
            } catch (const std::exception& error) {
                model.keep(before);
                refuse(c, "400 Bad Request", error.what());
            }
        }
        c.url.clear();
        c.length = 0;
        if (model.rows() >= MOST_ROWS) flush();
    }

    void refuse(Connection& c, const char* status, std::string_view why) {
        pending.push_back({&c, 0, status, "{\"error\":" + as_json(why) + "}", c.last});
    }

    // Run and answer all that is pending.
    void flush() {
        for (size_t i = 0, row = 0; i < pending.size();) {
            size_t end = i, rows = 0;
            do rows += pending[end++].rows;
            while (end < pending.size() && rows + pending[end].rows <= MOST_ROWS);
            if (rows) model.run(row, rows);
            for (size_t first = 0; i < end; first += pending[i++].rows) {
                answer(pending[i], first);
                if (i + 1 == end || pending[i + 1].to != pending[i].to) pending[i].to->send();
            }
            row += rows;
        }
        pending.clear();
        model.keep(0);
    }

    void answer(const Pending& to, size_t first) {
        if (to.rows) model.write(first, to.rows, text);
        const std::string& body = to.rows ? text : to.answer;
        std::string& out = to.to->out;
        ((out += "HTTP/1.1 ") += to.status) += "\r\nContent-Type: application/json\r\nContent-Length: ";
        (out += std::to_string(body.size())) += to.last ? "\r\nConnection: close\r\n\r\n" : "\r\n\r\n";
        out += body;
    }

    // Wait for the client, whichever way, or be done with it.
    void settle(Connection& c) {
        const uint32_t events = c.out.empty() ? EPOLLIN : EPOLLOUT;
        if (c.last && c.out.empty())
            delete &c;
        else if (events != c.events)
            watch(EPOLL_CTL_MOD, c.fd, &c, c.events = events);
    }

    Model model;
    llhttp_settings_t settings;
    std::vector<Pending> pending;
    std::string text;
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
};

int main(int argc, char** argv) try {
    if (argc < 3) throw std::invalid_argument("usage: limit MODEL PORT [THREADS]");
    const size_t threads = argc > 3 ? std::stoul(argv[3]) : 2;
    const Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "limit");
    std::deque<Worker> workers;
    while (workers.size() < threads) workers.emplace_back(env, argv[1]);
    for (Worker& worker : workers) worker.listen(std::stoi(argv[2]));
    std::vector<std::jthread> running;
    for (Worker& worker : workers) running.emplace_back([&] { worker.serve(workers); });
} catch (const std::exception& error) {
    std::cerr << "limit: " << error.what() << std::endl;
    return 1;
}
