"""Phrases of Vietnamese forms and sheets: labels, headings, what people fill in, running text.

Everything is drawn from the random generator that is passed. Texts are NFC; they are for a detector, which looks at
where text is, so they need the look of the language and no more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ppocr_slim.synth.addresses import AddressBook, as_written

MOTTO = ("CỘNG HOÀ XÃ HỘI CHỦ NGHĨA VIỆT NAM", "Độc lập - Tự do - Hạnh phúc")
TITLES = (
    "ĐƠN XIN XÁC NHẬN", "PHIẾU KHAI BÁO", "TỜ KHAI THÔNG TIN", "PHIẾU ĐĂNG KÝ", "GIẤY BIÊN NHẬN", "BIÊN BẢN BÀN GIAO",
    "SƠ YẾU LÝ LỊCH", "PHIẾU THU THẬP ĐỊA CHỈ", "ĐƠN ĐỀ NGHỊ", "GIẤY MỜI HỌP", "DANH SÁCH HỌC SINH", "PHIẾU GỬI HÀNG",
    "BẢN CAM KẾT", "PHIẾU KHẢO SÁT", "GIẤY GIỚI THIỆU", "HỢP ĐỒNG THUÊ NHÀ", "THÔNG BÁO", "BẢNG KÊ CHI TIẾT",
    "Phiếu khám sức khoẻ", "Giấy hẹn trả kết quả", "Application form", "Delivery note", "Registration",
)  # fmt: skip
SUBTITLES = (
    "(Dùng cho cá nhân)", "(Ban hành kèm theo Thông tư số 12)", "Mẫu số 01/TK", "Kính gửi: Uỷ ban nhân dân xã",
    "Số: ........../QĐ-UBND", "Năm học 2023 - 2024", "(Liên 2: giao khách hàng)", "Ngày ..... tháng ..... năm .....",
)  # fmt: skip
LABELS = (
    "Họ và tên", "Họ tên", "Ngày sinh", "Ngày, tháng, năm sinh", "Nơi sinh", "Giới tính", "Dân tộc", "Quốc tịch",
    "Quê quán", "Địa chỉ", "Địa chỉ thường trú", "Nơi ở hiện nay", "Số điện thoại", "Điện thoại", "Email",
    "Nghề nghiệp", "Nơi làm việc", "Đơn vị công tác", "Chức vụ", "Số CCCD", "Số CMND", "Ngày cấp", "Nơi cấp",
    "Người nhận", "Người gửi", "Mã số thuế", "Lý do", "Nội dung", "Ghi chú", "Tôn giáo", "Trình độ", "Lớp",
    "Trường", "Mã hồ sơ", "Số lượng", "Thành tiền", "Họ tên cha", "Họ tên mẹ", "Xã/Phường", "Quận/Huyện",
    "Tỉnh/Thành phố", "Full name", "Date of birth", "Address", "Phone No.",
)  # fmt: skip
WIDE_LABELS = (
    "Địa chỉ", "Địa chỉ thường trú", "Nơi ở hiện nay", "Quê quán", "Nơi sinh", "Địa chỉ nhận hàng", "Address",
)  # fmt: skip
HEADINGS = (
    "THÔNG TIN CÁ NHÂN", "Thông tin liên hệ", "PHẦN DÀNH CHO CƠ QUAN", "Quá trình học tập", "QUAN HỆ GIA ĐÌNH",
    "Cam kết của người khai", "Nội dung đề nghị", "Kết quả", "Điều khoản chung", "Quyền và nghĩa vụ", "Kế hoạch",
    "Hướng dẫn ghi phiếu", "Tài liệu kèm theo",
)  # fmt: skip
CHOICES = (
    "Nam", "Nữ", "Có", "Không", "Độc thân", "Đã kết hôn", "Khác", "Lần đầu", "Cấp lại", "Tiền mặt", "Chuyển khoản",
    "Đồng ý", "Tại nhà", "Trực tuyến", "Qua bưu điện", "Hàng dễ vỡ", "Rất hài lòng", "Chưa hài lòng",
)  # fmt: skip
COLUMNS = (
    "Họ và tên", "Ngày sinh", "Địa chỉ", "Ghi chú", "Số lượng", "Đơn giá", "Thành tiền", "Điểm", "Lớp", "Ký nhận",
    "Tên hàng", "ĐVT", "Mã số", "Nơi ở", "Điện thoại",
)  # fmt: skip
SIGNERS = ("NGƯỜI KHAI", "Người làm đơn", "Người nhận", "GIÁM ĐỐC", "Kế toán trưởng", "Người lập phiếu", "TRƯỞNG THÔN")
GOODS = (
    "Cà phê sữa", "Bánh mì thịt", "Trà đá", "Phở bò tái", "Nước suối 500ml", "Gạo ST25 5kg", "Sữa tươi 1L",
    "Mì gói", "Dầu ăn", "Đường trắng", "Khăn giấy", "Bút bi xanh", "Vở 96 trang", "Trứng gà (10)", "Xà phòng",
)  # fmt: skip
SHOPS = ("CỬA HÀNG TIỆN LỢI", "Quán Cơm Bình Dân", "NHÀ SÁCH", "CÀ PHÊ SÂN VƯỜN", "SIÊU THỊ MINI", "TẠP HOÁ")
_CLAUSES = (
    "Tôi xin cam đoan những lời khai trên là đúng sự thật", "nếu sai tôi xin hoàn toàn chịu trách nhiệm",
    "căn cứ vào biên bản họp ngày hôm qua", "đề nghị các đơn vị phối hợp thực hiện", "gia đình tôi hiện đang sinh sống",
    "mọi thắc mắc xin liên hệ văn phòng", "bên A giao cho bên B toàn bộ giấy tờ", "thời hạn giải quyết là mười ngày",
    "kể từ ngày nhận đủ hồ sơ hợp lệ", "xin chân thành cảm ơn", "theo quy định của pháp luật hiện hành",
    "các em học sinh nghỉ học từ thứ hai", "nhớ mua thêm rau và một ít thịt", "hôm nay trời mưa rất to",
    "mẹ và các em vẫn khoẻ", "con đã nhận được thư của nhà", "số tiền bằng chữ được ghi ở dưới",
    "hai bên thống nhất các điều khoản sau đây", "người thuê phải trả tiền đúng hạn", "phí vận chuyển do bên mua chịu",
    "kính mong quý cơ quan xem xét và giúp đỡ", "buổi họp bắt đầu lúc tám giờ sáng", "đường vào làng đã được sửa lại",
    "mùa màng năm nay khá hơn năm trước", "danh sách này thay cho danh sách đã gửi",
)  # fmt: skip
_FAMILIES = "Nguyễn Trần Lê Phạm Huỳnh Hoàng Phan Vũ Võ Đặng Bùi Đỗ Hồ Ngô Dương Lý Trịnh Đinh".split()
_MIDDLES = "Văn Thị Đức Minh Thanh Ngọc Hữu Quang Thuỳ Hồng Gia Bảo".split()
_GIVEN = (
    "An Bình Châu Dũng Đạt Giang Hà Hạnh Hiếu Hùng Hương Khánh Lan Linh Long Mai Nam Nga Oanh Phúc Quân Sơn "
    "Tâm Thảo Trang Tuấn Uyên Vinh Xuân Yến"
).split()
_JOBS = ("Giáo viên", "Nông dân", "Công nhân", "Học sinh", "Kế toán", "Lái xe", "Buôn bán", "Nội trợ", "Kỹ sư", "Y tá")
_REMARKS = ("Kinh", "Việt Nam", "Nam", "Nữ", "Không", "Đã nhận đủ", "Vắng", "Tốt", "Khá", "Gửi lại sau", "Hàng mới")


class Phrases:
    """Source of texts that need the table of places; create one a process."""

    def __init__(self) -> None:
        """Read the table of places."""
        self._book = AddressBook()

    def address(self, rng: np.random.Generator) -> str:
        """Return an address as people write it, of 6 to about 70 characters."""
        return as_written(self._book.draw(rng), rng)

    def place(self, rng: np.random.Generator) -> str:
        """Return one or two parts of an address."""
        parts = self._book.draw(rng).parts
        return " ".join(parts[-int(rng.integers(1, 3)) :])

    def running(self, rng: np.random.Generator, words: int) -> list[str]:
        """Return the words of sentences, at least `words` of them."""
        text: list[str] = []
        while len(text) < words:
            clauses = [choose(_CLAUSES, rng) for _ in range(int(rng.integers(1, 4)))]
            sentence = ", ".join(clauses) + "."
            text += (sentence[0].upper() + sentence[1:]).split()
        return text


def choose(choices: Sequence[str], rng: np.random.Generator) -> str:
    """Return one of the choices, drawn evenly."""
    return choices[int(rng.integers(len(choices)))]


def name(rng: np.random.Generator) -> str:
    """Return a person's name, now and then in capitals."""
    text = f"{choose(_FAMILIES, rng)} {choose(_MIDDLES, rng)} {choose(_GIVEN, rng)}"
    return text.upper() if rng.random() < 0.12 else text


def digits(rng: np.random.Generator, count: int) -> str:
    """Return a number of `count` digits."""
    return "".join(str(digit) for digit in rng.integers(0, 10, count))


def date(rng: np.random.Generator) -> str:
    """Return a date."""
    separator = choose("//-.", rng)
    day, month, year = int(rng.integers(1, 29)), int(rng.integers(1, 13)), int(rng.integers(1940, 2025))
    return separator.join((f"{day:02d}", f"{month:02d}", str(year)))


def phone(rng: np.random.Generator) -> str:
    """Return a telephone number."""
    number = f"0{digits(rng, 9)}"
    return number if rng.random() < 0.6 else f"{number[:4]} {number[4:7]} {number[7:]}"


def price(rng: np.random.Generator) -> str:
    """Return a price."""
    return f"{int(rng.integers(1, 900))}.{'000' if rng.random() < 0.8 else '500'}"


def short(rng: np.random.Generator) -> str:
    """Return the content of a short field: a name, a date, a number, a word or two."""
    kind = int(rng.integers(7))
    if kind < 2:
        return name(rng)
    if kind == 2:
        return date(rng)
    if kind == 3:
        return phone(rng)
    if kind == 4:
        return digits(rng, int(rng.integers(1, 13)))
    return choose(_JOBS if kind == 5 else _REMARKS, rng)
