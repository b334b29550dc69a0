(() => {
  const table = document.getElementById('bans');
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const search = document.getElementById('search');
  const shown = document.getElementById('shown');

  /** A text that sorts as the address does: all IPv4 before IPv6, each by its numbers. */
  const addressKey = (text) => {
    const [address, prefix = ''] = text.split('/');
    const end = prefix.padStart(3, '0');
    if (!address.includes(':'))
      return `4${address
        .split('.')
        .map((part) => part.padStart(3, '0'))
        .join('.')}/${end}`;
    const [head, tail] = address.split('::').map((half) => half.split(':').filter(Boolean));
    const gap = Array(Math.max(0, 8 - head.length - (tail ? tail.length : 0))).fill('0');
    return `6${[...head, ...(tail ? gap : []), ...(tail || [])].map((group) => group.padStart(4, '0')).join(':')}/${end}`;
  };
  const keyOf = (row, column) => {
    const text = row.cells[column].textContent;
    return column === 0 ? addressKey(text) : text.toLowerCase();
  };

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, index) => {
      const isShown = words.every((word) => texts[index].includes(word));
      row.hidden = !isShown;
      if (isShown) count += 1;
    });
    shown.textContent = `${count.toLocaleString('en')} of ${rows.length.toLocaleString('en')}`;
  };

  const sort = (heading, column) => {
    const isDown = heading.getAttribute('aria-sort') === 'ascending';
    for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
    heading.setAttribute('aria-sort', isDown ? 'descending' : 'ascending');
    const keyed = rows.map((row) => [keyOf(row, column), row]);
    keyed.sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0));
    if (isDown) keyed.reverse();
    body.append(...keyed.map(([, row]) => row));
  };

  Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = heading.textContent;
    button.addEventListener('click', () => sort(heading, column));
    heading.replaceChildren(button);
  });
  document.getElementById('tools').hidden = false;
  document.getElementById('tools').addEventListener('submit', (event) => event.preventDefault());
  search.addEventListener('input', filter);
  filter();
})();
