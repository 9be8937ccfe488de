"""An invoice as a PDF."""

from billhook_sandbox.objects.account import account_name
from billhook_sandbox.objects.invoice_totals import lines_of
from billhook_sandbox.pages.formatting import money
from billhook_sandbox.pages.pdf import PAGE_HEIGHT, PAGE_WIDTH, PdfPage
from billhook_sandbox.pages.rendering import date
from billhook_sandbox.store import DataSet, Json

LEFT, RIGHT = 56, PAGE_WIDTH - 56
MAX_LINES = 20
MAX_TEXT = 70


def invoice_pdf(data: DataSet, invoice: Json) -> bytes:
    page = PdfPage()
    page.text(LEFT, 72, "Invoice", 24, bold=True)
    page.text(RIGHT, 72, shortened(account_name(data)), 12, align="right")
    y = facts(page, invoice, 104)
    y = bill_to(page, invoice, y + 16)
    y = lines(page, lines_of(data, invoice["id"]), invoice["currency"], y + 24)
    totals(page, invoice, y)
    page.text(LEFT, PAGE_HEIGHT - 48, "Made by a sandbox. No real money was moved.", 8)
    return page.document(f"Invoice {invoice['number']}")


def facts(page: PdfPage, invoice: Json, y: int) -> int:
    finalized = invoice["status_transitions"]["finalized_at"] or invoice["created"]
    shown = {"Invoice number": invoice["number"], "Date of issue": date(finalized)}
    if invoice["due_date"]:
        shown["Date due"] = date(invoice["due_date"])
    shown["Status"] = str(invoice["status"]).capitalize()
    for name, value in shown.items():
        page.text(LEFT, y, name, bold=True)
        page.text(LEFT + 110, y, str(value))
        y += 16
    return y


def bill_to(page: PdfPage, invoice: Json, y: int) -> int:
    address = invoice["customer_address"] or {}
    city = " ".join(filter(None, (address.get("postal_code"), address.get("city"))))
    parts = (
        invoice["customer_name"], address.get("line1"), address.get("line2"), city,
        address.get("country"), invoice["customer_email"],
    )  # fmt: skip
    page.text(LEFT, y, "Bill to", bold=True)
    for part in filter(None, parts):
        y += 14
        page.text(LEFT, y, shortened(str(part)))
    return y


def lines(page: PdfPage, found: list[Json], currency: str, y: int) -> int:
    page.text(LEFT, y, "Description", 9)
    page.text(RIGHT, y, "Amount", 9, align="right")
    page.line(LEFT, RIGHT, y + 8)
    for each in found[:MAX_LINES]:
        y += 24
        page.text(LEFT, y, shortened(str(each["description"] or "")))
        page.text(RIGHT, y, money(each["amount"], currency), align="right")
    if len(found) > MAX_LINES:
        y += 24
        page.text(LEFT, y, f"and {len(found) - MAX_LINES} more")
    page.line(LEFT, RIGHT, y + 12)
    return y + 32


def totals(page: PdfPage, invoice: Json, y: int) -> None:
    discount = sum(each["amount"] for each in invoice["total_discount_amounts"] or ())
    tax = sum(each["amount"] for each in invoice["total_taxes"] or ())
    shown = {
        "Subtotal": invoice["subtotal"],
        **({"Discount": -discount} if discount else {}),
        **({"Tax": tax} if tax else {}),
        "Total": invoice["total"],
        "Amount paid": invoice["amount_paid"],
        "Amount remaining": invoice["amount_remaining"],
    }
    for name, amount in shown.items():
        page.text(LEFT + 260, y, name, bold=name == "Total")
        page.text(RIGHT, y, money(amount, invoice["currency"]), bold=name == "Total", align="right")
        y += 18


def shortened(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
