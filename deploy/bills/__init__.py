"""Bills: the CSV files that Alipay offers for download, and their comparison with the order store.

`files` opens them, `layouts` knows their columns, `cells` reads single cells, `reader` puts these together. `sheet`
keeps the rows of one import, `comparison` compares them.
"""
