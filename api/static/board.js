// Sorting and filtering without a reload. Every action here is also a plain link or form, so nothing is lost without it.
(() => {
  "use strict";

  const form = document.getElementById("filters");
  if (!form) return;
  document.documentElement.classList.add("js");

  const region = () => document.getElementById("board");
  const bodyRows = () => [...region().querySelectorAll("tbody tr:not(.nothing)")];
  // With every row of the board at hand the browser sorts and filters; otherwise the server is asked for the part shown.
  const complete = () => region().dataset.complete === "true";
  let pending = null;

  // What the address bar should say: the form's fields, and the sort order once one was chosen.
  function state() {
    const params = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (value) params.set(name, value);
    return params;
  }

  function remember(sort, order) {
    for (const [name, value] of [["sort", sort], ["order", order]]) {
      let field = form.elements.namedItem(name);
      if (!field) {
        field = Object.assign(document.createElement("input"), { type: "hidden", name });
        form.append(field);
      }
      field.value = value;
    }
  }

  // Address bar, header links and downloads say what is shown.
  function sync(query = state()) {
    history.replaceState(null, "", "?" + query);
    const params = new URLSearchParams(query);
    params.delete("offset");
    for (const head of region().querySelectorAll("th[data-first]")) {
      const current = head.dataset.column === region().dataset.sort;
      const link = new URLSearchParams(params);
      const flipped = region().dataset.order === "desc" ? "asc" : "desc";
      link.set("sort", head.dataset.column);
      link.set("order", current ? flipped : head.dataset.first);
      head.querySelector("a").href = "?" + link;
      if (current) head.setAttribute("aria-sort", region().dataset.order === "desc" ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    // The interface knows no text filter: downloads hold the whole family.
    params.delete("q");
    for (const link of form.querySelectorAll("[data-download]")) link.search = "?" + params;
  }

  function sortRows(column, order) {
    const head = [...region().querySelectorAll("th[data-first]")].find((th) => th.dataset.column === column);
    const numeric = head.dataset.numeric === "true";
    const sign = order === "desc" ? -1 : 1;
    const keyed = bodyRows().map((row) => {
      const value = (name) => [...row.children].find((cell) => cell.dataset.column === name).dataset.value;
      const text = value(column);
      return { row, text, key: numeric ? Number(text) : text, model: value("model") };
    });
    // As the server does it: missing values come last in both directions, ties by the model's name.
    keyed.sort((a, b) => {
      const missing = (a.text === "") - (b.text === "");
      if (missing) return missing;
      if (a.text !== "" && a.key !== b.key) return a.key < b.key ? -sign : sign;
      return a.model < b.model ? -1 : 1;
    });
    const body = region().querySelector("tbody");
    body.prepend(...keyed.map((entry) => entry.row));
    region().dataset.sort = column;
    region().dataset.order = order;
  }

  function filterRows() {
    const family = form.elements.namedItem("family").value;
    const words = form.elements.namedItem("q").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of bodyRows()) {
      const fits = (!family || row.dataset.family === family) && words.every((word) => row.dataset.text.includes(word));
      row.hidden = !fits;
      shown += fits;
    }
    region().querySelector(".nothing").hidden = shown > 0;
    document.getElementById("count").textContent = shown;
  }

  // Take the board from the server's page for `query`; on any trouble go there the plain way.
  async function swap(query) {
    if (pending) pending.abort();
    const request = (pending = new AbortController());
    try {
      const answer = await fetch("?" + query, { signal: request.signal });
      if (!answer.ok) throw new Error(answer.statusText);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (request.signal.aborted) return;
      region().replaceWith(document.importNode(page.getElementById("board"), true));
      sync(query);
    } catch (error) {
      if (error.name !== "AbortError") location.assign("?" + query);
    }
  }

  function filter() {
    if (!complete()) return void swap(state());
    filterRows();
    sync();
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-sort], a[data-page]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    const query = new URLSearchParams(link.search);
    if (link.dataset.sort) remember(query.get("sort"), query.get("order"));
    if (!link.dataset.sort || !complete()) return void swap(query);
    sortRows(query.get("sort"), query.get("order"));
    sync();
  });

  let timer = 0;
  form.addEventListener("input", (event) => {
    if (event.target.name !== "q") return;
    clearTimeout(timer);
    timer = setTimeout(filter, complete() ? 0 : 150);
  });
  form.addEventListener("change", (event) => {
    if (event.target.name === "family") filter();
    if (event.target.name === "dataset") swap(state());
    if (event.target.name === "benchmark") location.assign("?" + new URLSearchParams({ benchmark: event.target.value }));
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    filter();
  });
})();
