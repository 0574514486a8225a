# a2mim reproduce transfer --camvid camvid-320.tar --out runs/transfer
a2mim segment --recipe camvid:linear --model tf_efficientnet_lite0 --weights random --data camvid-320.tar --device auto --out runs/transfer/camvid-linear-random
a2mim segment --recipe camvid:linear --model tf_efficientnet_lite0 --weights efficientnet-lite0.pth --data camvid-320.tar --device auto --out runs/transfer/camvid-linear-trained
a2mim segment --recipe camvid:linear_finetuned --model tf_efficientnet_lite0 --weights random --data camvid-320.tar --device auto --out runs/transfer/camvid-linear_finetuned-random
a2mim segment --recipe camvid:linear_finetuned --model tf_efficientnet_lite0 --weights efficientnet-lite0.pth --data camvid-320.tar --device auto --out runs/transfer/camvid-linear_finetuned-trained
a2mim segment --recipe camvid:fpn --model tf_efficientnet_lite0 --weights random --data camvid-320.tar --device auto --out runs/transfer/camvid-fpn-random
a2mim segment --recipe camvid:fpn --model tf_efficientnet_lite0 --weights efficientnet-lite0.pth --data camvid-320.tar --device auto --out runs/transfer/camvid-fpn-trained
