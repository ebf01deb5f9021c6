// Make the tables sortable and filterable. All text is in the page without this script; if it fails, tables stay plain.
const packed = Uint8Array.from(atob(document.getElementById("datatables").textContent), (c) => c.charCodeAt(0));
const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
const source = new Blob([await new Response(unpacked).text()], { type: "text/javascript" });
const { default: DataTable } = await import(URL.createObjectURL(source));

const FILTERED = 6; // rows, with the head, from which a table has a filter
const filter = { search: { text: "Filter", placeholder: "" } };
for (const table of document.querySelectorAll("table.sortable")) {
  new DataTable(table, {
    paging: false,
    info: false,
    order: [],
    autoWidth: false,
    layout: { topStart: table.closest(".compact") || table.rows.length < FILTERED ? null : filter, topEnd: null },
    language: { zeroRecords: "No row has this text." },
  });
}
document.documentElement.dataset.tables = "ready";
