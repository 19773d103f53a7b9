"""Part affinity fields (Cao et al. 2017; Osokin 2018): encode people into maps, decode maps into people."""
