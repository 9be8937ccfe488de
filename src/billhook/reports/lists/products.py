"""Products with their prices, for the dashboard. The API's catalog is
`billhook.reports.catalog`."""

from __future__ import annotations

from billhook.models import Price, Product, ProductsQuery, ProductWithPrices
from billhook.postgres import Database
from billhook.reports.lists.searching import begins_with
from billhook.reports.paging import Arguments, Conditions, Listing, Order, Page, Walk
from billhook.settings import Environment

PRODUCT_COLUMNS = """environment, product_id, name, description, active, default_price_id, metadata,
    synced_at"""
PRICE_COLUMNS = """environment, price_id, product_id, active, currency, unit_amount,
    unit_amount_decimal, type, lookup_key, billing_scheme, tax_behavior, recurring_interval,
    recurring_interval_count, metadata, synced_at"""

_NAME = 'pg_catalog.left(pg_catalog.lower(t.name), 200) COLLATE "C"'
_BY_NAME = Order(((_NAME, "text"), ("t.product_id", "text")))
_COLUMNS = """t.environment, t.product_id, t.name, t.description, t.active, t.default_price_id,
    t.metadata, t.synced_at"""
# Shops that create a price for each sale have tens of thousands for one product.
_PRICES = f"""
SELECT few.* FROM unnest($2::text[], $3::text[]) AS of_product(product_id, default_price_id)
CROSS JOIN LATERAL (
    SELECT {PRICE_COLUMNS} FROM payments.stripe_prices AS p
    WHERE p.environment = $1 AND p.product_id = of_product.product_id
    ORDER BY p.price_id IS NOT DISTINCT FROM of_product.default_price_id DESC, p.active DESC,
        p.price_id
    LIMIT $4) AS few
"""


async def products(
    database: Database,
    environment: Environment,
    query: ProductsQuery,
    *,
    prices_each: int = 100,
    count_to: int | None = None,
) -> Page[ProductWithPrices]:
    """Products by name, ignoring case, each with up to `prices_each` of its prices: the default one
    first, then active ones."""
    page = await _listing(environment, query).page(database, query, count_to)
    prices: dict[str, list[Price]] = {row["product_id"]: [] for row in page.rows}
    if prices:
        async with database.connection() as connection:
            defaults = [row["default_price_id"] for row in page.rows]
            for row in await connection.fetch(
                _PRICES, environment, list(prices), defaults, prices_each
            ):
                prices[row["product_id"]].append(Price(**row))
    return page.of(
        [
            ProductWithPrices(product=Product(**row), prices=prices[row["product_id"]])
            for row in page.rows
        ]
    )


def _listing(environment: Environment, query: ProductsQuery) -> Listing:
    args = Arguments()
    where = Conditions(args)
    where.add("t.environment = {}", environment)
    actives = [True, False] if query.active is None else [query.active]
    # As text: asyncpg's own queries for other array types have no exact types (decisions/0010).
    states = args.add([str(each) for each in actives])
    each = f"pg_catalog.unnest({states}::text[]::boolean[]) AS of_state(active)"
    where.add("t.active = of_state.active")
    walks = [Walk(tuple(where.clauses), each)]
    if query.search is not None:
        text = args.add(query.search)
        floor, ceiling = begins_with(_NAME, text)
        ids = f"""
            SELECT x.id FROM payments.stripe_products AS x
            WHERE x.environment = $1 AND x.product_id = {text}
            UNION ALL
            SELECT x.id FROM payments.stripe_prices AS p JOIN payments.stripe_products AS x
              ON x.environment = p.environment AND x.product_id = p.product_id
            WHERE p.environment = $1 AND p.price_id = {text}
            UNION ALL
            SELECT x.id FROM payments.stripe_prices AS p JOIN payments.stripe_products AS x
              ON x.environment = p.environment AND x.product_id = p.product_id
            WHERE p.environment = $1 AND p.lookup_key = {text}"""
        walks = [
            Walk(tuple(where.clauses), each, floor=floor, ceiling=ceiling),
            Walk((*where.clauses, f"t.id = ANY (ARRAY({ids}))"), each),
        ]
    return Listing("payments.stripe_products", _BY_NAME, tuple(walks), _COLUMNS, args)
