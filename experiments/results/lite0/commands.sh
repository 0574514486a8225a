# a2mim reproduce lite0 --data ../shared/data/imagenet-1-per-class.tar --results experiments/results/lite0
a2mim profile experiments.studies.lite0:network --weights pretrained --image-size 112 --data ../shared/data/imagenet-1-per-class.tar --device auto --grid 7 --images 8 --budget 300 --ratios 0.05 0.3 0.5 0.7 0.95 --out runs/lite0/trained/profile
a2mim occlusion experiments.studies.lite0:network --weights pretrained --image-size 112 --data ../shared/data/imagenet-1-per-class.tar --device auto --grid 7 --images 100 --out runs/lite0/trained/occlusion
a2mim spectrum experiments.studies.lite0:network --weights pretrained --image-size 112 --data ../shared/data/imagenet-1-per-class.tar --device auto --images 100 --out runs/lite0/trained/spectrum
a2mim profile experiments.studies.lite0:network --weights random --image-size 112 --data ../shared/data/imagenet-1-per-class.tar --device auto --grid 7 --images 8 --budget 300 --ratios 0.05 0.3 0.5 0.7 0.95 --out runs/lite0/random/profile
a2mim spectrum experiments.studies.lite0:network --weights random --image-size 112 --data ../shared/data/imagenet-1-per-class.tar --device auto --images 100 --out runs/lite0/random/spectrum
