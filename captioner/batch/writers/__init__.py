"""What a job writes: one file a format.

    jsonl.write_jsonl                   the rows, one a line
    csv_table.write_csv                 a table for spreadsheets
    parquet.write_parquet               a table for millions of rows (extra `parquet`)
    coco.write_coco                     results for scorers of captions
    alt_map.write_alt_map               alternative texts by path, for static sites
    shards.ShardWriter                  WebDataset, with the pictures, for training
    contact_sheet.ContactSheetWriter    a page to look at and correct captions on
    sidecars.SidecarWriter              a text beside each picture
    metadata.MetadataWriter             texts in the pictures themselves

All but the last two are `rows.Write`: they write one output from all rows, and so need no undoing. The last two touch
what may be a person's: they plan a change, which the job keeps in its ledger before it applies it, and can revert it.
"""
