// Classify photos with an exported `.ort` or `.onnx`: C++17 and ONNX Runtime are enough, nothing of rexnet-export.
//
//     apt install g++ pkg-config libonnxruntime-dev                                               # Debian 13
//     g++ -std=c++17 -O2 classify.cpp $(pkg-config --cflags --libs libonnxruntime) -o classify
//     ./classify rexnet_100-int8-x86.ort photo.ppm ...
//
// Labels, input size and how a photo is resized are read from the file. Normalisation is inside it: it takes bytes. The
// resize is not inside, and must be done as the network was trained, which is as Pillow does; this is how, to the bit.
// Photos are binary PPM (P6, 8 bits): an app that has a decoder gives `prepare` its RGB bytes.

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

constexpr size_t TOP = 5;
constexpr double MOST_PIXELS = 89478485;  // of a photo, read or resized: Pillow's own bound

[[noreturn]] void fail(const std::string& why) { throw std::runtime_error(why); }

// ---- a photo -------------------------------------------------------------------------------------------------------

struct Image {
    int width, height;
    std::vector<uint8_t> rgb;  // rows from the top

    Image(double wide, double high) {
        if (!(wide >= 1 && high >= 1 && wide * high <= MOST_PIXELS)) fail("no pixels, or too many of them");
        width = int(wide), height = int(high);
        rgb.resize(size_t(3) * width * height);
    }
    size_t at(int x, int y) const { return 3 * (size_t(y) * width + x); }
};

// The next number of a PPM's header; comments go from `#` to the line's end.
int header_number(std::istream& file) {
    while (file >> std::ws && file.peek() == '#')
        while (file && file.get() != '\n') continue;
    int number = 0;
    if (!(file >> number)) fail("not a binary PPM (P6)");
    return number;
}

Image read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) fail("cannot be read");
    char magic[2] = {};
    if (!file.read(magic, 2) || magic[0] != 'P' || magic[1] != '6') fail("not a binary PPM (P6)");
    const int width = header_number(file), height = header_number(file);
    if (header_number(file) != 255) fail("not a PPM of 8 bits: its largest value is not 255");
    file.get();  // the one blank before the pixels
    Image image(width, height);
    if (!file.read(reinterpret_cast<char*>(image.rgb.data()), std::streamsize(image.rgb.size()))) fail("ends early");
    return image;
}

// ---- Pillow's resize -----------------------------------------------------------------------------------------------

const double PI = std::acos(-1.0);

double box(double x) { return x > -0.5 && x <= 0.5 ? 1 : 0; }
double bilinear(double x) { return std::max(0.0, 1 - std::abs(x)); }
double hamming(double x) {
    x = std::abs(x);
    return x == 0 ? 1 : x >= 1 ? 0 : std::sin(x * PI) / (x * PI) * (0.54f + 0.46f * std::cos(x * PI));  // floats there too
}
double bicubic(double x) {
    x = std::abs(x);
    return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}
double sinc(double x) { return x == 0 ? 1 : std::sin(x * PI) / (x * PI); }
double lanczos(double x) { return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

struct Filter {
    double reach;
    double (*weight)(double);
};
const std::map<std::string, Filter> FILTERS = {
    {"box", {0.5, box}},       {"bilinear", {1, bilinear}}, {"hamming", {1, hamming}},
    {"bicubic", {2, bicubic}}, {"lanczos", {3, lanczos}},
};

// Along one axis. The filter grows with the pixels that fall together (antialiasing); weights are integers of 22 bits
// after the point, and each axis is rounded to bytes: Pillow's arithmetic, which training saw.
Image resized_along(const Image& image, bool across, int size, const Filter& filter) {
    const int old = across ? image.width : image.height, lines = across ? image.height : image.width;
    if (size == old) return image;
    Image result(across ? size : image.width, across ? image.height : size);
    const double scale = double(old) / size, stretch = std::max(1.0, scale), reach = filter.reach * stretch;
    const size_t step = across ? 3 : image.at(0, 1);
    for (int to = 0; to < size; ++to) {
        const double center = (to + 0.5) * scale;
        const int first = std::max(0, int(center - reach + 0.5)), last = std::min(old, int(center + reach + 0.5));
        std::vector<double> exact;
        for (int from = first; from < last; ++from)
            exact.push_back(filter.weight((from - center + 0.5) * (1 / stretch)));
        const double sum = std::accumulate(exact.begin(), exact.end(), 0.0);
        std::vector<int> weights;
        for (double weight : exact) {
            weight = (sum != 0 ? weight / sum : weight) * (1 << 22);
            weights.push_back(int(weight < 0 ? weight - 0.5 : weight + 0.5));
        }
        for (int line = 0; line < lines; ++line) {
            const uint8_t* from = &image.rgb[across ? image.at(first, line) : image.at(line, first)];
            uint8_t* pixel = &result.rgb[across ? result.at(to, line) : result.at(line, to)];
            for (int channel = 0; channel < 3; ++channel) {
                int value = 1 << 21;
                for (size_t tap = 0; tap < weights.size(); ++tap) value += weights[tap] * from[tap * step + channel];
                pixel[channel] = uint8_t(std::clamp(value >> 22, 0, 255));
            }
        }
    }
    return result;
}

// Where Pillow's nearest neighbours lie: it adds the step up, and so does this.
std::vector<int> nearest(int old, int size) {
    std::vector<int> places;
    const double step = double(old) / size;
    double place = step * 0.5;
    for (int to = 0; to < size; ++to, place += step) places.push_back(std::min(int(place), old - 1));
    return places;
}

Image resized(const Image& image, int width, int height, const std::string& interpolation) {
    if (interpolation != "nearest") {
        const Filter& filter = FILTERS.at(interpolation);
        // The order, which the rounding between shows, is Pillow 13's; Pillow 12 always began across.
        const bool down_first = height < image.height && image.height - height > 2 * (image.width - width);
        const Image half = resized_along(image, !down_first, down_first ? height : width, filter);
        return resized_along(half, down_first, down_first ? width : height, filter);
    }
    Image result(width, height);
    const std::vector<int> columns = nearest(image.width, width), rows = nearest(image.height, height);
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x)
            std::copy_n(&image.rgb[image.at(columns[x], rows[y])], 3, &result.rgb[result.at(x, y)]);
    return result;
}

// ---- what the file says of itself ----------------------------------------------------------------------------------

using About = std::map<std::string, std::string>;

[[noreturn]] void damaged(const std::string& key) { fail("its metadata '" + key + "' is damaged: export it again"); }

const std::string& entry(const About& about, const std::string& key) {
    const auto found = about.find(key);
    if (found == about.end()) fail("its metadata has no '" + key + "': not written by rexnet-export");
    return found->second;
}

std::string utf8(uint32_t code) {
    const auto tail = [code](int shift) { return char(0x80 | (code >> shift & 0x3F)); };
    if (code < 0x80) return {char(code)};
    if (code < 0x800) return {char(0xC0 | code >> 6), tail(0)};
    if (code < 0x10000) return {char(0xE0 | code >> 12), tail(6), tail(0)};
    return {char(0xF0 | code >> 18), tail(12), tail(6), tail(0)};
}

uint32_t hexadecimal(const std::string& json, size_t& place) {
    const std::string digits = json.substr(place, 4);
    place += 4;
    return uint32_t(std::stoul(digits, nullptr, 16));
}

// What stands behind the backslash of a JSON string.
std::string escaped(const std::string& json, size_t& place) {
    static const std::string names = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
    const char name = json.at(place++);
    if (name != 'u') return {meant.at(names.find(name))};
    const uint32_t unit = hexadecimal(json, place);
    if (unit < 0xD800 || unit > 0xDBFF || json.compare(place, 2, "\\u") != 0) return utf8(unit);
    place += 2;  // a character behind the first 65,536 is written as two
    return utf8(0x10000 + ((unit & 0x3FF) << 10) + (hexadecimal(json, place) & 0x3FF));
}

// A JSON list as `json.dumps` writes it: strings without their quotes, numbers as they stand.
std::vector<std::string> listed(const About& about, const std::string& key) {
    const std::string& json = entry(about, key);
    std::vector<std::string> items;
    if (json == "[]") return items;
    try {
        if (json.at(0) != '[') damaged(key);
        for (size_t place = 1;; place += 2) {  // a comma and a blank
            std::string item;
            if (json.at(place) == '"') {
                while (json.at(++place) != '"') {
                    if (json[place] != '\\') item += json[place];
                    else item += escaped(json, ++place), --place;
                }
                ++place;
            } else {
                const size_t end = json.find_first_of(",]", place);
                item = json.substr(place, end - place);
                place = end;
            }
            items.push_back(item);
            if (json.at(place) == ']') return items;
        }
    } catch (const std::logic_error&) {  // out of range: the text has ended
        damaged(key);
    }
}

// How a photo becomes the network's input.
struct Rule {
    int height, width;  // of the input
    int down, across;   // what the photo is resized against, before it is cropped
    std::string crop_mode, interpolation;
    std::array<uint8_t, 3> mean;
};

// `224`, or `160x80` for a height and a width.
std::array<int, 2> sides(const About& about, const std::string& key) {
    const std::string& text = entry(about, key);
    int height = 0, width = 0, used = 0;
    const int count = std::sscanf(text.c_str(), "%5d%nx%5d%n", &height, &used, &width, &used);
    if (count == 1) width = height;
    if (count < 1 || size_t(used) != text.size() || height < 1 || width < 1) damaged(key);
    return {height, width};
}

Rule rule_of(const About& about) {
    const auto [height, width] = sides(about, "input_size");
    const auto [down, across] = sides(about, "resize");
    Rule rule{height, width, down, across, entry(about, "crop_mode"), entry(about, "interpolation"), {}};
    if (rule.crop_mode != "center" && rule.crop_mode != "squash" && rule.crop_mode != "border") damaged("crop_mode");
    if (rule.interpolation != "nearest" && !FILTERS.count(rule.interpolation)) damaged("interpolation");
    const std::vector<std::string> mean = listed(about, "mean");
    if (mean.size() != 3) fail("takes images of " + std::to_string(mean.size()) + " channels; this reads photos of 3");
    std::transform(mean.begin(), mean.end(), rule.mean.begin(), [](const std::string& value) {
        return uint8_t(std::clamp(std::nearbyint(255 * std::strtod(value.c_str(), nullptr)), 0.0, 255.0));
    });
    return rule;
}

// ---- a photo as the file takes it ----------------------------------------------------------------------------------

Image resized(const Image& photo, const Rule& rule) {
    const double wide = photo.width, high = photo.height;
    double width = rule.across, height = rule.down;
    if (rule.crop_mode == "center" && rule.across == rule.down) {
        const double longer = std::floor(width * std::max(wide, high) / std::min(wide, high));
        (wide <= high ? height : width) = longer;
    } else if (rule.crop_mode != "squash") {
        const double by_height = high / height, by_width = wide / width;
        const double ratio = rule.crop_mode == "border" ? std::max(by_height, by_width) : std::min(by_height, by_width);
        width = std::nearbyint(wide / ratio), height = std::nearbyint(high / ratio);
    }
    if (!(width * height >= 1 && width * height <= MOST_PIXELS)) fail("too elongated to be resized");
    return resized(photo, int(width), int(height), rule.interpolation);
}

// The middle of the resized photo, or the photo in the middle of the mean colour with an odd pixel right and below.
Image prepare(const Image& photo, const Rule& rule) {
    const Image image = resized(photo, rule);
    const bool border = rule.crop_mode == "border";
    const auto corner = [border](int has, int takes) {
        return border && has < takes ? -((takes - has) / 2) : int(std::nearbyint((has - takes) / 2.0));
    };
    const int left = corner(image.width, rule.width), top = corner(image.height, rule.height);
    Image input(rule.width, rule.height);
    for (int y = 0; y < input.height; ++y) {
        for (int x = 0; x < input.width; ++x) {
            const int from_x = left + x, from_y = top + y;
            const bool inside = from_x >= 0 && from_x < image.width && from_y >= 0 && from_y < image.height;
            const uint8_t* from = inside ? &image.rgb[image.at(from_x, from_y)] : rule.mean.data();
            if (inside || border) std::copy_n(from, 3, &input.rgb[input.at(x, y)]);
        }
    }
    return input;
}

// ---- ONNX Runtime --------------------------------------------------------------------------------------------------

About about_of(const Ort::Session& session) {
    Ort::AllocatorWithDefaultOptions allocator;
    const Ort::ModelMetadata metadata = session.GetModelMetadata();
    About about;
    for (const auto& key : metadata.GetCustomMetadataMapKeysAllocated(allocator))
        about[key.get()] = metadata.LookupCustomMetadataMapAllocated(key.get(), allocator).get();
    return about;
}

void check_outputs(const Ort::Session& session) {
    Ort::AllocatorWithDefaultOptions allocator;
    for (size_t index = 0; index < session.GetOutputCount(); ++index)
        if (session.GetOutputNameAllocated(index, allocator).get() == std::string("probabilities")) return;
    fail("gives no 'probabilities': this is for classifiers, exported without --scores logits");
}

// The probability of each class.
std::vector<float> ask(Ort::Session& session, Image& input) {
    const std::array<int64_t, 4> shape = {1, input.height, input.width, 3};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    auto& bytes = input.rgb;
    const auto image = Ort::Value::CreateTensor(memory, bytes.data(), bytes.size(), shape.data(), shape.size());
    const char *inputs[] = {"image"}, *outputs[] = {"probabilities"};
    const std::vector<Ort::Value> answers = session.Run(Ort::RunOptions(), inputs, &image, 1, outputs, 1);
    const auto about = answers[0].GetTensorTypeAndShapeInfo();
    if (about.GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) fail("gives probabilities that are no floats");
    const float* first = answers[0].GetTensorData<float>();
    return {first, first + about.GetElementCount()};
}

using Labels = std::vector<std::string>;

void print_best(const std::string& photo, const std::vector<float>& probabilities, const Labels& labels) {
    if (probabilities.size() != labels.size()) fail("gives another number of classes than it has labels");
    std::vector<size_t> best(labels.size());
    std::iota(best.begin(), best.end(), 0);
    const size_t top = std::min(TOP, best.size());
    std::partial_sort(best.begin(), best.begin() + top, best.end(),
                      [&](size_t one, size_t other) { return probabilities[one] > probabilities[other]; });
    std::printf("%s", photo.c_str());
    for (size_t place = 0; place < top; ++place)
        std::printf("%s %s %.2f%%", place ? "," : "", labels[best[place]].c_str(), 100 * probabilities[best[place]]);
    std::printf("\n");
}

int main(int count, char** words) {
    if (count < 3) return std::fprintf(stderr, "usage: %s FILE.ort PHOTO.ppm ...\n", words[0]), 2;
    std::string of = words[1];
    try {
        if (!std::ifstream(of)) fail("cannot be read");
        const Ort::Env environment(ORT_LOGGING_LEVEL_FATAL, "classify");
        Ort::SessionOptions options;
        // Exact integers on x86 processors without VNNI; nothing elsewhere.
        options.AddConfigEntry("session.x64quantprecision", "1");
        Ort::Session session(environment, std::filesystem::path(of).c_str(), options);
        const About about = about_of(session);
        const Rule rule = rule_of(about);
        const Labels labels = listed(about, "labels");
        check_outputs(session);
        for (int place = 2; place < count; ++place) {
            of = words[place];
            Image input = prepare(read_ppm(of), rule);
            of = words[1];
            print_best(words[place], ask(session, input), labels);
        }
    } catch (const std::exception& error) {
        const std::string why = error.what();
        return std::fprintf(stderr, "%s: %s\n", of.c_str(), why.substr(0, why.find('\n')).c_str()), 1;
    }
    return 0;
}
